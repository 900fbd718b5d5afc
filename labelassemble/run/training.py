"""From a configuration to a folder that holds everything a later command needs."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import torch
from rich.console import Console

from labelassemble._files import alone_in
from labelassemble.config import Config
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Evaluation, auroc_per_class
from labelassemble.evaluation.detection import Detection
from labelassemble.loss import PartialLabelLoss
from labelassemble.run.detection import evaluate_detection_run
from labelassemble.run.evaluation import evaluate_run
from labelassemble.run.folder import bad_files_of
from labelassemble.run.prepare import Start, prepare
from labelassemble.run.volumes import volume_validation, volume_views
from labelassemble.training.checkpoint import Checkpoints
from labelassemble.training.data import TrainingData
from labelassemble.training.distributed import SINGLE_PROCESS, Processes
from labelassemble.training.logging import TrainingLog
from labelassemble.training.loop import Outcome, fit
from labelassemble.training.options import Sampling
from labelassemble.training.speed import Speed
from labelassemble.training.start import freeze
from labelassemble.training.state import TrainState
from labelassemble.training.trackers import without_data
from labelassemble.training.validation import Scored, Validation
from labelassemble.views.batch import Views
from labelassemble.views.choice import choose_backend, open_views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler
from labelassemble.views.volume_options import VolumeOptions

_Options = TypeVar("_Options", ViewOptions, VolumeOptions)

_MOST_REPEATED: Final = 1024  # images of a batch that repeats some


@dataclass(frozen=True)
class Result:
    """What a training came to.

    Attributes:
        run: the run's folder.
        outcome: epochs, steps and seconds.
        evaluation: on the test images, or of volumes on the patients; None if there are none.
        detection: of volumes, on the test cases.
    """

    run: Path
    outcome: Outcome
    evaluation: Evaluation | None
    detection: Detection | None = None


def train_run(
    config: Config,
    run: Path,
    *,
    resume: bool,
    console: Console,
    start_from: Path | None = None,
    processes: Processes = SINGLE_PROCESS,
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
        LabelAssembleError: the folder holds another run, another process trains in it, no training image, a class that
            no source labels, ...
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
    with ExitStack() as held:
        processes.together(lambda: held.enter_context(alone_in(run, "trains")) if processes.first else None)
        device = processes.together(lambda: _device(config.train.device, processes))
        start = processes.from_first(
            lambda: prepare(config, run, resume=resume, console=console, start_from=start_from, branch=branch)
        )
        processes.together(lambda: freeze(start.net, config.train, start.origin))
        if start.origin is not None:
            console.print(start.origin.to_text(), highlight=False, markup=False, soft_wrap=True)
        processes.together(lambda: start.write(config, run) if processes.first else None)
        state = TrainState(
            start.net.to(device),
            start.data,
            config.loss,
            config.train,
            processes=processes,
            criterion=criterion,
        )
        _say_speed(state.speed, console)
        if start.checkpoint is not None:
            state.load_state_dict(start.checkpoint)
        sampler = _sampler(config, start, processes, console)
        validation: Scored
        views: Views
        if config.volumes is None:
            view_options = _shared_threads(config.views, config.views.decoders(), processes)
            backend = choose_backend(config.views, state.device)
            text = f"Views are made by {backend.name}: {backend.reason}"
            console.print(text, highlight=False, soft_wrap=True, markup=False)
            views = open_views(
                backend, start.data.paths, start.data.targets, view_options, sampler, state.device
            )
            validation = images_to_validate(config, start, view_options)
        else:
            volumes = _shared_threads(config.volumes, config.volumes.readers(), processes)
            views = volume_views(start.data, start.table, volumes, sampler, state.device, console)
            validation = volume_validation(start.table, volumes, start.interest)
        shown = without_data(config.model_dump(mode="json"))
        log = TrainingLog(run, console, state, steps=views.steps, settings=shown)
        checkpoints = Checkpoints(run / "checkpoints", start.description(config), processes)
        outcome = fit(state, views, validation, log, checkpoints, until=until)
        finished = outcome.early or outcome.epochs == config.train.epochs
        if not processes.first or not finished:
            return Result(run, outcome, None)
        if config.volumes is not None:
            detection = evaluate_detection_run(run, table=start.table).detection
            return Result(run, outcome, None if detection is None else detection.evaluation, detection)
        found = evaluate_run(run, table=start.table)
        return Result(run, outcome, None if found is None else found.evaluation)


def _say_speed(speed: Speed, console: Console) -> None:
    """Say how the network is trained, and warn of what was asked for and is slow."""
    console.print(speed.to_text(), highlight=False, markup=False, soft_wrap=True)
    if speed.warning:
        console.print(
            f"Warning: {speed.warning}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )


def _shared_threads(options: _Options, threads: int, processes: Processes) -> _Options:
    """Return the options with this process's share of its machine's processors."""
    if processes.local_count == 1:
        return options
    return options.model_copy(update={"threads": max(1, threads // processes.local_count)})


def _sampler(config: Config, start: Start, processes: Processes, console: Console) -> Sampler:
    """Return which images are in which batch, and say how they are drawn."""
    train = config.train
    sampling = resolved_sampling(train.sampling, start.data)
    if train.sampling == "auto":
        console.print(
            "Batches hold as much of every source, since some classes exclude each other"
            if start.data.exclusions
            else "Batches are shuffled, since no classes exclude each other",
            highlight=False,
            soft_wrap=True,
        )
    _warn_of_balance(config, start, sampling, console)
    images = len(start.data.paths)
    if train.batch_size > max(images, _MOST_REPEATED):
        raise LabelAssembleError(
            f"train.batch_size must be at most the number of training images, {images}, or {_MOST_REPEATED} where "
            f"there are fewer, got {train.batch_size}: each image would be in a batch several times"
        )
    return Sampler(
        images,
        batch_size=train.batch_size,
        seed=train.seed,
        steps_per_epoch=train.steps_per_epoch,
        sources=None if sampling == "shuffle" else start.sources(),
        shares=sampling if isinstance(sampling, dict) else None,
        parts=train.accumulate,
        rank=processes.rank,
        world_size=processes.count,
    )


def resolved_sampling(sampling: Sampling, data: TrainingData) -> Sampling:
    """Return how batches are drawn, "auto" as what it stands for with these images."""
    if sampling != "auto":
        return sampling
    return "balanced" if data.exclusions else "shuffle"


def _warn_of_balance(config: Config, start: Start, sampling: Sampling, console: Console) -> None:
    """Say that shares of sources and pseudo-labels without exclusion cost in measurement."""
    pseudo = config.loss.pseudo_weight > 0 or config.loss.consistency_weight > 0
    several = len(set(start.sources())) > 1
    if sampling != "shuffle" and pseudo and several and not start.data.exclusions:
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


def images_to_validate(config: Config, start: Start, options: ViewOptions) -> Validation:
    """Return the validation images of a run on images."""
    table = start.table
    paths = table.paths[table.splits == "val"].tolist()
    return Validation(
        paths=paths,
        targets=start.val_targets,
        views=options,
        auroc=partial(auroc_per_class, classes=table.classes),
        interest=[table.classes.index(name) for name in start.interest],
        bad_files=bad_files_of(len(paths), config.views),
    )


def _device(name: str, processes: Processes = SINGLE_PROCESS) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and not gpus:
        raise LabelAssembleError("train.device is cuda, but torch finds no CUDA device here")
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
