"""From a configuration to a folder that holds everything a later command needs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from labelassemble._files import write_text
from labelassemble.config import Config, load_config
from labelassemble.data import Assembly, Exclusions, Table, missing_files
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Evaluation, auroc_per_class
from labelassemble.loss import PartialLabelLoss
from labelassemble.models import HEADS_BY_SOURCE, AssembleNet
from labelassemble.run.evaluation import evaluate_run
from labelassemble.run.folder import assemble_config, bad_files_of, environment, load_trained
from labelassemble.training.checkpoint import load_newest
from labelassemble.training.collapse import known_shares
from labelassemble.training.display import Display
from labelassemble.training.distributed import ALONE, Processes
from labelassemble.training.loop import Outcome, Validation, fit
from labelassemble.training.options import Sampling
from labelassemble.training.sources import SourceLabels, ViewsWithSources, labels_by_source
from labelassemble.training.start import Origin, freeze, read_origin, start_network
from labelassemble.version import __version__
from labelassemble.views.batch import Views
from labelassemble.views.choice import choose_backend, open_views
from labelassemble.views.sampler import Sampler, even_shares


@dataclass(frozen=True)
class Result:
    """What a training came to.

    Attributes:
        run: the run's folder.
        outcome: epochs, steps and seconds.
        evaluation: on the test images; None if there are none.
    """

    run: Path
    outcome: Outcome
    evaluation: Evaluation | None


@dataclass(frozen=True)
class _Start:
    """What the first process finds and makes before training, for all of them.

    Attributes:
        table: all images.
        hidden: labels taken away by `hide`, for evaluation alone.
        exclusions: which classes exclude each other in each training image.
        given_shares: share of positives among the training labels of each class that somebody gave.
        interest: classes by which the best checkpoint is chosen.
        train_targets: float32 [N, C] of the training images, NaN = unknown.
        val_targets: likewise, of the validation images, without what is assumed or uncertain: nothing is chosen by it.
        places: int64 [N], each training image's source, for a network that has a part a source.
        net: as it starts, on the CPU.
        origin: where it goes on from another run.
        checkpoint: where the run itself goes on.
    """

    table: Table
    hidden: Table | None
    exclusions: Exclusions
    given_shares: list[float | None]
    interest: tuple[str, ...]
    train_targets: np.ndarray
    val_targets: np.ndarray
    places: np.ndarray | None
    net: AssembleNet
    origin: Origin | None
    checkpoint: dict[str, Any] | None


def train_run(
    config: Config,
    run: Path,
    *,
    resume: bool,
    console: Console,
    start_from: Path | None = None,
    processes: Processes = ALONE,
    until: int | None = None,
    branch: bool = False,
    criterion: type[PartialLabelLoss] = PartialLabelLoss,
) -> Result:
    """Assemble, train, predict, evaluate and report; the run's folder gets all of it.

    Args:
        config: a validated configuration.
        run: the folder; made if need be.
        resume: go on from the folder's last checkpoint; without one, begin.
        console: shows what is assembled, and progress.
        start_from: folder of a run whose best checkpoint the network goes on from; its classes are found by name, and
            those that the configuration has besides are added to it. A resumed run knows it of itself.
        processes: that train together; the first alone reads tables and writes, and evaluates in the end.
        until: epochs after which this call ends, without an evaluation, to be resumed later; None for all of them.
        branch: with `resume`, the folder is a copy of another run's, and the configuration may have another `loss` than
            that run: two runs that differ in the loss for unknown labels alone share their warm-up so.
        criterion: the class of the loss, a variant of the paper's.

    Raises:
        LabelAssembleError: the folder holds another run, no training image, a class that no source labels, ...
        TrainingInterrupted: on Ctrl-C; the last checkpoint is in the folder.
        OtherProcessFailed: another process raised one of these.
    """
    if not processes.first:
        console = Console(quiet=True)
    if processes.count > 1 and config.model.head == "multi_network":
        raise LabelAssembleError(
            "model.head multi_network trains in one process: a network whose source a process has no image of would "
            "wait for the others' norms for ever"
        )
    device = processes.together(lambda: _device(config.train.device, processes))
    start = processes.from_first(
        lambda: _prepare(config, run, resume=resume, console=console, start_from=start_from, branch=branch)
    )
    table, net, checkpoint, options = start.table, start.net, start.checkpoint, config.train
    rows = {split: np.flatnonzero(table.splits == split) for split in ("train", "val")}
    processes.together(lambda: freeze(net, options, start.origin))
    if processes.first and start.origin is not None:
        console.print(start.origin.to_text(), highlight=False, markup=False, soft_wrap=True)
    processes.together(lambda: _write_start(config, run, start) if processes.first else None)
    net.to(device)
    choice = choose_backend(config.views, device)
    sampling = options.sampling
    if sampling == "auto":
        sampling = "balanced" if start.exclusions else "shuffle"
        console.print(
            "Batches hold as much of every source, since some classes exclude each other"
            if start.exclusions
            else "Batches are shuffled, since no classes exclude each other",
            highlight=False,
            soft_wrap=True,
        )
    _warn_of_balance(config, start, sampling, console)
    console.print(f"Views are made by {choice.name}: {choice.reason}", highlight=False, soft_wrap=True)
    train_paths: list[str] = table.paths[rows["train"]].tolist()
    view_options = config.views
    if processes.local_count > 1:  # the processes of a machine share its processors
        threads = max(1, config.views.decoders() // processes.local_count)
        view_options = config.views.model_copy(update={"threads": threads})
    sampler = Sampler(
        len(train_paths),
        batch_size=options.batch_size,
        seed=options.seed,
        steps_per_epoch=options.steps_per_epoch,
        sources=None if sampling == "shuffle" else table.sources[rows["train"]].tolist(),
        shares=sampling if isinstance(sampling, dict) else None,
        parts=options.accumulate,
        rank=processes.rank,
        world_size=processes.count,
    )
    views: Views = open_views(choice, train_paths, start.train_targets, view_options, sampler, device)
    if start.places is not None:
        views = ViewsWithSources(views, start.places)
    validation = Validation(
        paths=table.paths[rows["val"]].tolist(),
        targets=start.val_targets,
        views=view_options,
        auroc=partial(auroc_per_class, classes=table.classes),
        interest=[table.classes.index(name) for name in start.interest],
        bad_files=bad_files_of(len(rows["val"]), config.views),
    )
    done = 0 if checkpoint is None else checkpoint["epoch"] * views.steps + checkpoint["step"]
    with Display(console, run.name, epochs=options.epochs, steps=views.steps, done=done) as display:
        outcome = fit(
            net,
            views,
            validation,
            classes=table.classes,
            loss=config.loss,
            options=options,
            run=run,
            train_paths=train_paths,
            train_targets=start.train_targets,
            description=_description(config, net, start.interest),
            resume=checkpoint,
            display=display,
            processes=processes,
            exclusions=start.exclusions,
            given_shares=start.given_shares,
            until=until,
            criterion=criterion,
        )
    finished = outcome.early or outcome.epochs == options.epochs
    return Result(run, outcome, evaluate_run(run, table=table) if processes.first and finished else None)


def _warn_of_balance(config: Config, start: _Start, sampling: Sampling, console: Console) -> None:
    """Say that shares of sources and pseudo-labels without exclusion cost in measurement."""
    pseudo = config.loss.pseudo_weight > 0 or config.loss.consistency_weight > 0
    several = len(set(start.table.sources[start.table.splits == "train"].tolist())) > 1
    if sampling != "shuffle" and pseudo and several and not start.exclusions:
        console.print(
            "Warning: train.sampling gives small sources a larger share while pseudo-labels are learned and no classes "
            "exclude each other; in measurement that lowered the AUC. Say which classes exclude each other (exclusive "
            "of a source or of the taxonomy), or set train.sampling=shuffle or loss.pseudo_weight=0 and "
            "loss.consistency_weight=0",
            style="yellow",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _prepare(
    config: Config, run: Path, *, resume: bool, console: Console, start_from: Path | None, branch: bool
) -> _Start:
    """Assemble, and make the network or find where it goes on; nothing is written."""
    if resume:
        _check_same(config, run, but=("loss",) if branch else ())
    elif (run / "config.yaml").exists():
        raise LabelAssembleError(
            f"{run} holds a run already: go on with it by --resume, or choose another folder with --output"
        )
    last = run / "checkpoints" / "last.pt"
    checkpoint = load_newest(last) if resume and last.exists() else None
    origin, learnt = _origin(run, start_from, config, resume=resume, loaded=checkpoint is not None)
    assembly = assemble_config(config, console)
    table = assembly.table
    interest = _interest(config, table)
    train = np.flatnonzero(table.splits == "train")
    if not len(train):
        raise LabelAssembleError(
            "no image is in the training split: check the sources' split columns and split.val, split.test"
        )
    if isinstance(config.train.sampling, dict):  # before anything is written
        even_shares(list(dict.fromkeys(table.sources[train].tolist())), config.train.sampling)
    console.print(assembly.report.to_text(), highlight=False, markup=False, soft_wrap=True)
    missing = missing_files(table.paths)  # few of them are left out as they are met, like other bad files
    if missing and (
        config.views.bad_files == "stop" or len(missing) > config.views.bad_files_limit * len(table.paths)
    ):
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LabelAssembleError(f"an image of the table does not exist: {missing[0]}{more}")

    targets, train_targets, own = _targets(config, assembly, train, console)
    net, origin = start_network(
        config.model if checkpoint is None else config.model.model_copy(update={"pretrained": None}),
        classes=table.classes,
        sources=None if own is None else own.classes,
        channels=config.views.channels,
        seed=config.train.seed,
        learnt=learnt,
        origin=origin,
    )
    return _Start(
        table=table,
        hidden=assembly.hidden,
        exclusions=assembly.exclusions.select(train),
        given_shares=known_shares(_given_targets(table, targets)[train]),
        interest=interest,
        train_targets=train_targets,
        val_targets=_given_targets(table, targets)[table.splits == "val"],
        places=None if own is None else own.places,
        net=net,
        origin=origin,
        checkpoint=checkpoint,
    )


def _write_start(config: Config, run: Path, start: _Start) -> None:
    """Write what a run's folder holds before training."""
    run.mkdir(parents=True, exist_ok=True)
    start.table.to_csv(run / "table.csv")
    if start.hidden is not None:
        start.hidden.to_csv(run / "hidden.csv")
    about = environment()
    if start.origin is not None:
        write_text(run / "from.json", start.origin.model_dump_json(indent=2) + "\n")
        about["from"] = start.origin.model_dump(mode="json")
    write_text(run / "environment.json", json.dumps(about, indent=2) + "\n")
    write_text(run / "config.yaml", config.to_yaml())


def _check_same(config: Config, run: Path, but: Sequence[str]) -> None:
    """Raise unless the folder's configuration, if it has one, is this one, `but` for some keys."""
    path = run / "config.yaml"
    if not path.exists():
        return
    before, now = load_config(path).model_dump(mode="json"), config.model_dump(mode="json")
    for key in now:
        if before[key] != now[key] and key not in but:
            raise LabelAssembleError(
                f"{run} was begun with another '{key}' than the configuration has now: "
                f"resume with {path}, or begin a new run with --output"
            )


def _interest(config: Config, table: Table) -> tuple[str, ...]:
    for name in config.interest:
        if name not in table.classes:
            raise LabelAssembleError(
                f"interest names '{name}', which is none of the classes: {', '.join(table.classes)}"
            )
    return config.interest or table.classes


def _origin(
    run: Path, start_from: Path | None, config: Config, *, resume: bool, loaded: bool
) -> tuple[Origin | None, AssembleNet | None]:
    """Return where the run goes on from, and the network there unless the run's own checkpoint is `loaded`."""
    if start_from is not None:
        if resume:
            raise LabelAssembleError(
                "--from begins a new run and --resume goes on with one: leave one of them out"
            )
        origin: Origin | None = Origin(run=str(start_from.resolve()), epoch=0)
    else:
        origin = read_origin(run / "from.json") if resume else None
    if origin is None or loaded:
        return origin, None
    trained = load_trained(Path(origin.run))
    for key in ("channels", "size", "mean", "std"):
        before, now = getattr(trained.views, key), getattr(config.views, key)
        if before != now:
            raise LabelAssembleError(
                f"views.{key} must be that of the run that it goes on from, {before}, got {now}"
            )
    return origin.model_copy(update={"epoch": trained.epoch}), trained.net


def _targets(
    config: Config, assembly: Assembly, train: np.ndarray, console: Console
) -> tuple[np.ndarray, np.ndarray, SourceLabels | None]:
    """Return the targets of all rows and of the training rows, and what each source labels, if the head needs that."""
    targets = assembly.targets()
    if config.model.head not in HEADS_BY_SOURCE:
        return targets, targets[train], None
    own = labels_by_source(assembly.table.select(train), targets[train], assembly.report.duplicates)
    if own.foreign:
        console.print(
            f"{own.foreign} known labels on images that several sources have are left out: with model.head "
            f"{config.model.head} an image teaches its own source's part alone",
            highlight=False,
            soft_wrap=True,
        )
    return targets, own.targets, own


def _given_targets(table: Table, targets: np.ndarray) -> np.ndarray:
    """Return targets [N, C] that somebody gave as present or absent; NaN where they are assumed or uncertain too."""
    return np.where(table.known & ~table.assumed, targets, np.float32(np.nan))


def _description(config: Config, net: AssembleNet, interest: Sequence[str]) -> dict[str, str]:
    return {
        "classes": json.dumps(list(net.classes)),
        "sources": json.dumps(net.sources),
        "interest": json.dumps(list(interest)),
        "model": config.model.model_copy(update={"pretrained": None}).model_dump_json(),
        "views": config.views.model_dump_json(),
        "labelassemble": __version__,
    }


def _device(name: str, processes: Processes = ALONE) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not gpus:
        raise LabelAssembleError("train.device is cuda, but torch sees no CUDA device here")
    if name == "cpu" or not gpus:
        return torch.device("cpu")
    if processes.count == 1:
        return torch.device("cuda")
    if processes.local_rank >= gpus:
        raise LabelAssembleError(
            f"process {processes.local_rank} of this machine has no GPU: there are {gpus}, so start as many processes "
            "or set train.device=cpu"
        )
    return torch.device("cuda", processes.local_rank)
