"""The one place where experiments call training: a job in, its result out."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console

from labelassemble.evaluation import auroc_per_class, delong
from labelassemble.evaluation.metrics import known_masks
from labelassemble.experiments.dealing import Dealt
from labelassemble.experiments.jobs import Job, JobResult
from labelassemble.experiments.measures import measure
from labelassemble.experiments.released_loss import ReleasedLoss
from labelassemble.experiments.seen import seen
from labelassemble.experiments.settings import NetOptions
from labelassemble.experiments.stack import Stack
from labelassemble.head import ClassQueryHead
from labelassemble.loss import PartialLabelLoss
from labelassemble.models import AssembleNet, SmallCnn
from labelassemble.models.features import predict_with_features
from labelassemble.models.predict import predict
from labelassemble.training.checkpoint import Checkpoints, load_checkpoint
from labelassemble.training.data import TrainingData
from labelassemble.training.distributed import SINGLE_PROCESS
from labelassemble.training.logging import TrainingLog
from labelassemble.training.loop import fit
from labelassemble.training.state import TrainState
from labelassemble.training.validation import Validation
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.batch import Views
from labelassemble.views.choice import choose_backend, open_views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler


def make_net(
    options: NetOptions,
    classes: tuple[str, ...],
    *,
    views: ViewOptions,
    seed: int,
    sources: Mapping[str, Sequence[str]] | None = None,
) -> AssembleNet:
    """Return the network of a job; its initial weights come from the seed.

    Args:
        options: backbone, head and queries.
        classes: names of the classes.
        views: size and channels of the images.
        seed: of the initial weights.
        sources: the classes that each source labels, for the heads that need them.

    Raises:
        LabelAssembleError: what `AssembleNet` raises.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = AssembleNet(
            partial(SmallCnn, size=views.size) if options.backbone == "cnn_small" else options.backbone,
            classes=classes,
            head=options.head,
            in_channels=views.channels,
            pretrained=options.pretrained,
            sources=sources,
        )
        if isinstance(net.head, ClassQueryHead):
            if options.queries == "random":
                directions = torch.randn(net.head.queries.shape)
                net.head.queries.data = F.normalize(directions, dim=1)
            net.head.queries.requires_grad_(options.learn_queries)
    return net


def train_job(job: Job, stack: Stack, dealt: Dealt, run: Path, *, console: Console) -> JobResult:
    """Train a job's network and measure it on the test images.

    The checkpoint is the one with the highest validation AUC, of the class of interest or as a mean over the classes,
    or the last one, as the experiment says.

    Args:
        job: what to train.
        stack: the images.
        dealt: those that it trains on.
        run: folder for checkpoints and metrics.csv while it runs; a job that was interrupted goes on from there. The
            checkpoints are removed when it is done, metrics.csv stays.
        console: where progress within the job goes.

    Raises:
        TrainingInterrupted: on Ctrl-C.
        LabelAssembleError: a loss that is not finite, or a class that no source labels for a head that needs it.
    """
    stack = seen(stack, job.arm.sees)
    columns = [stack.classes.index(name) for name in job.classes]
    measured = range(len(columns)) if job.setting.interest is None else range(1)
    targets = (dealt.truth if job.arm.labels == "all" else dealt.targets)[:, columns]
    sources = _sources(dealt.parts, targets, job.classes)
    rows = {split: stack.rows(split) for split in ("val", "test")}
    device = torch.device("cuda" if job.train.device != "cpu" and torch.cuda.is_available() else "cpu")
    net = make_net(job.model, job.classes, views=job.views, seed=job.seed, sources=sources).to(device)
    sampler = Sampler(
        len(dealt.rows),
        batch_size=min(job.train.batch_size, len(dealt.rows)),
        seed=job.seed,
        steps_per_epoch=job.train.steps_per_epoch,
        # Nothing excludes anything here, so "auto" is "shuffle".
        sources=None if job.train.sampling in ("auto", "shuffle") else dealt.parts.tolist(),
        shares=job.train.sampling if isinstance(job.train.sampling, dict) else None,
    )
    views: Views = open_views(
        choose_backend(job.views, device),
        stack.paths(dealt.rows),
        targets,
        job.views,
        sampler,
        device,
    )
    places = {part: place for place, part in enumerate(sources)}
    data = TrainingData(
        job.classes,
        stack.paths(dealt.rows),
        targets,
        sources=np.array([places.get(part, -1) for part in dealt.parts.tolist()])
        if net.needs_sources
        else None,
    )
    validation = Validation(
        paths=stack.paths(rows["val"]),
        # By what is measured alone: arms must be chosen by the same labels.
        targets=_columns_alone(stack.given[rows["val"]][:, columns], measured),
        views=job.views,
        auroc=partial(auroc_per_class, classes=job.classes),
        interest=measured,
        bad_files=BadFiles(len(rows["val"]), policy="stop", limit=0.0),
    )
    criterion = ReleasedLoss if job.arm.criterion == "released" else PartialLabelLoss
    state = TrainState(net, data, job.loss, job.train, criterion=criterion)
    last = run / "checkpoints" / "last.pt"
    if last.exists():
        state.load_state_dict(load_checkpoint(last))
    run.mkdir(parents=True, exist_ok=True)
    log = TrainingLog(run, console, state, steps=views.steps)
    outcome = fit(state, views, validation, log, Checkpoints(run / "checkpoints", {}, SINGLE_PROCESS))
    truth = stack.targets[rows["test"]][:, columns]
    tested = stack.paths(rows["test"])
    last_state = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(load_checkpoint(run / "checkpoints" / "best.pt")["model"])
    auc_best = None
    if job.checkpoint == "last":
        scores = predict(net, tested, job.views, batch_size=256)
        auc_best = _mean(_aucs(truth, scores, job.classes)[column] for column in measured)
        net.load_state_dict(last_state)
    answers = predict_with_features(net, tested, job.views, batch_size=256)
    scores = answers.probabilities
    aucs = _aucs(truth, scores, job.classes)
    auc, low, high = _mean(aucs), None, None
    measures = {}
    if job.setting.interest is not None:
        auc, low, high = _area(truth[:, 0], scores[:, 0], stack.groups[rows["test"]], job.setting.interest)
        measures = measure(
            net, stack, scores[:, 0], answers.features, column=columns[0], views=job.views
        )._asdict()
    unknown = np.isnan(targets[:, measured])
    share_above = share_positive = auc_unknown = None
    if unknown.any():
        some = unknown.any(axis=1)
        guessed = predict(net, stack.paths(dealt.rows[some]), job.views, batch_size=256)[:, measured]
        hidden = np.where(unknown, dealt.truth[:, columns][:, measured], np.nan)[some]
        share_above = float((guessed[unknown[some]] > job.loss.threshold).mean())
        if not np.isnan(hidden).all():
            share_positive = float(np.nanmean(hidden))
        auc_unknown = _mean(_aucs(hidden, guessed, [job.classes[column] for column in measured]))
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    cosine = None
    if isinstance(net.head, ClassQueryHead) and job.other is not None:
        cosine = float(net.head.similarity()[0, 1])
    return JobResult(
        auc=auc,
        low=low,
        high=high,
        positives=int((truth[:, measured] == 1).sum()),
        negatives=int((truth[:, measured] == 0).sum()),
        train_images=len(dealt.rows),
        train_positives=int((targets[:, measured] == 1).sum()),
        auc_best=auc_best,
        best_epoch=outcome.best_epoch,
        epochs=outcome.epochs,
        seconds=round(outcome.seconds, 2),
        cosine=cosine,
        unknown=int(unknown.sum()),
        unknown_above=share_above,
        unknown_positive=share_positive,
        unknown_auc=auc_unknown,
        class_auc=dict(zip(job.classes, aucs, strict=True)),
        **measures,
    )


def _sources(
    parts: NDArray[np.str_], targets: NDArray[np.float32], classes: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the classes that each part labels, by its name, in the order in which the parts come; not of none."""
    labelled = {}
    for part in dict.fromkeys(parts.tolist()):
        known = ~np.isnan(targets[parts == part])
        labelled[part] = tuple(name for name, own in zip(classes, known.any(axis=0), strict=True) if own)
    return {part: names for part, names in labelled.items() if names}


def _columns_alone(targets: NDArray[np.float32], columns: Sequence[int]) -> NDArray[np.float32]:
    alone = np.full_like(targets, np.nan)
    alone[:, columns] = targets[:, columns]
    return alone


def _area(
    truth: NDArray[np.float32], scores: NDArray[np.float64], patients: NDArray[np.str_], name: str
) -> tuple[float | None, float | None, float | None]:
    """Return a class's AUROC and the ends of DeLong's interval over patients."""
    positive, negative = known_masks(truth, name=f"'{name}'")
    area = delong(
        scores[positive],
        scores[negative],
        positive_groups=patients[positive],
        negative_groups=patients[negative],
    )
    return (None, None, None) if area is None else (area.auroc, area.interval.lower, area.interval.upper)


def _aucs(
    truth: NDArray[np.float32], scores: NDArray[np.float64], classes: Sequence[str]
) -> list[float | None]:
    return auroc_per_class(scores, truth, classes=classes)


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
