"""The one place where experiments call training: a job in, its result out."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from labelassemble.evaluation import auroc, auroc_per_class, delong
from labelassemble.evaluation.metrics import known_masks
from labelassemble.experiments.dealing import Dealt
from labelassemble.experiments.jobs import Job, JobResult
from labelassemble.experiments.measures import measure
from labelassemble.experiments.seen import seen
from labelassemble.experiments.settings import NetOptions
from labelassemble.experiments.stack import Stack
from labelassemble.head import ClassQueryHead
from labelassemble.models import AssembleNet
from labelassemble.models.predict import predict
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.training.display import Display
from labelassemble.training.loop import fit
from labelassemble.training.validation import Validation
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.choice import choose_backend, open_views
from labelassemble.views.policy import ViewOptions


class SmallCnn(nn.Module):
    """A network for images of 28 to 64 pixels that trains in seconds on a CPU; logits [B, C].

    Four 3x3 convolutions of 16, 32, 64 and 64 channels, each with BatchNorm and ReLU; the first has stride 2, the two
    in the middle are followed by max-pooling, for 64 pixels the first as well; global average; then the head.

    Args:
        classes: names of the classes.
        head: "class_query" or "linear".
        in_channels: 1 or 3.
        size: height and width of the images.
    """

    def __init__(self, classes: tuple[str, ...], *, head: str, in_channels: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for index, width in enumerate((16, 32, 64, 64)):
            stride = 2 if index == 0 else 1
            layers += [
                nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            if index in (1, 2) or (index == 0 and size >= 64):
                layers.append(nn.MaxPool2d(2))
            channels = width
        self.features = nn.Sequential(*layers)
        for weights in self.features.parameters():
            if weights.dim() == 4:  # twice as quick on a CPU
                weights.data = weights.data.contiguous(memory_format=torch.channels_last)
        self.head: nn.Module
        if head == "class_query":
            self.head = ClassQueryHead(channels, list(classes))
        else:
            self.head = nn.Linear(channels, len(classes))

    @property
    def backbone(self) -> nn.Module:
        """What gives the maps whose averages the head sees, under the name that `AssembleNet` has for it."""
        return self.features

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of preprocessed images [B, in_channels, H, W]."""
        return self.head(self.features(images).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def make_net(options: NetOptions, classes: tuple[str, ...], *, views: ViewOptions, seed: int) -> nn.Module:
    """Return the network of a job; its initial weights come from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if options.backbone == "cnn_small":
            return SmallCnn(classes, head=options.head, in_channels=views.channels, size=views.size)
        return AssembleNet(
            options.backbone,
            classes=classes,
            head=options.head,
            in_channels=views.channels,
            pretrained=options.pretrained,
        )


def train_job(job: Job, stack: Stack, dealt: Dealt, run: Path, *, console: Console) -> JobResult:
    """Train a job's network and measure it on the test images.

    The checkpoint is the one with the highest validation AUC of the class of interest, or the last one, as the
    experiment says.

    Args:
        job: what to train.
        stack: the images.
        dealt: those that it trains on.
        run: folder for checkpoints and metrics.csv while it runs; a job that was interrupted goes on from there. The
            checkpoints are removed when it is done, metrics.csv stays.
        console: where progress within the job goes.

    Raises:
        TrainingInterrupted: on Ctrl-C.
        LabelAssembleError: a loss that is not finite.
    """
    stack = seen(stack, job.arm.sees)
    columns = [stack.classes.index(name) for name in job.classes]
    targets = dealt.targets[:, columns]
    rows = {split: stack.rows(split) for split in ("val", "test")}
    device = torch.device("cuda" if job.train.device != "cpu" and torch.cuda.is_available() else "cpu")
    net = make_net(job.model, job.classes, views=job.views, seed=job.seed).to(device)
    views = open_views(
        choose_backend(job.views, device),
        stack.paths(dealt.rows),
        targets,
        job.views,
        batch_size=min(job.train.batch_size, len(dealt.rows)),
        seed=job.seed,
        steps_per_epoch=job.train.steps_per_epoch,
        sources=dealt.parts.tolist() if job.train.sampling == "balanced" else None,
        device=device,
    )
    validation = Validation(
        paths=stack.paths(rows["val"]),
        # By the class of interest alone: arms must be chosen by the same labels.
        targets=_first_column_alone(stack.given[rows["val"]][:, columns]),
        views=job.views,
        auroc=partial(auroc_per_class, classes=job.classes),
        interest=[0],
        bad_files=BadFiles(len(rows["val"]), policy="stop", limit=0.0),
    )
    last = run / "checkpoints" / "last.pt"
    checkpoint = load_checkpoint(last) if last.exists() else None
    done = 0 if checkpoint is None else checkpoint["epoch"] * views.steps + checkpoint["step"]
    run.mkdir(parents=True, exist_ok=True)
    with Display(console, job.name, epochs=job.train.epochs, steps=views.steps, done=done) as display:
        outcome = fit(
            net,
            views,
            validation,
            classes=job.classes,
            loss=job.loss,
            options=job.train,
            run=run,
            train_paths=stack.paths(dealt.rows),
            train_targets=targets,
            description={},
            resume=checkpoint,
            display=display,
        )
    truth = stack.targets[rows["test"], columns[0]]
    tested = stack.paths(rows["test"])
    last_state = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(load_checkpoint(run / "checkpoints" / "best.pt")["model"])
    scores = predict(net, tested, job.views, batch_size=256)[:, 0]
    auc_best = None
    if job.checkpoint == "last":
        auc_best = auroc(truth, scores)
        net.load_state_dict(last_state)
        scores = predict(net, tested, job.views, batch_size=256)[:, 0]
    positive, negative = known_masks(truth, name=f"'{job.setting.interest}'")
    patients = stack.groups[rows["test"]]
    area = delong(
        scores[positive],
        scores[negative],
        positive_groups=patients[positive],
        negative_groups=patients[negative],
    )
    measures = measure(net, stack, scores, column=columns[0], views=job.views)
    unknown = np.isnan(targets[:, 0])
    share_above = share_positive = auc_unknown = None
    if unknown.any():
        guessed = predict(net, stack.paths(dealt.rows[unknown]), job.views, batch_size=256)[:, 0]
        hidden = dealt.truth[unknown, columns[0]]
        share_above = float((guessed > job.loss.threshold).mean())
        if not np.isnan(hidden).all():
            share_positive = float(np.nanmean(hidden))
        auc_unknown = auroc(hidden, guessed)
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    head = getattr(net, "head", None)
    cosine = None
    if isinstance(head, ClassQueryHead) and job.other is not None:
        cosine = float(head.similarity()[0, 1])
    return JobResult(
        auc=None if area is None else area.auroc,
        low=None if area is None else area.interval.lower,
        high=None if area is None else area.interval.upper,
        positives=int(positive.sum()),
        negatives=int(negative.sum()),
        train_images=len(dealt.rows),
        train_positives=int((targets[:, 0] == 1).sum()),
        auc_best=auc_best,
        best_epoch=outcome.best_epoch,
        epochs=outcome.epochs,
        seconds=round(outcome.seconds, 2),
        cosine=cosine,
        unknown=int(unknown.sum()),
        unknown_above=share_above,
        unknown_positive=share_positive,
        unknown_auc=auc_unknown,
        **measures._asdict(),
    )


def _first_column_alone(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    alone = np.full_like(targets, np.nan)
    alone[:, 0] = targets[:, 0]
    return alone
