"""A run: from a configuration to a folder that holds everything a later command needs."""

import csv
import io
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from labelassemble import _extension
from labelassemble.config import Config, load_config
from labelassemble.data import Assembly, Table, assemble, missing_files
from labelassemble.data.images import decode_image
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Evaluation, Predictions, auroc_per_class, evaluate, write_predictions
from labelassemble.evaluation.report import Comparison, write_report
from labelassemble.export.torchscript import ExportSummary, export_torchscript
from labelassemble.head import ClassQueryHead
from labelassemble.models import AssembleNet, ModelOptions
from labelassemble.models.predict import predict
from labelassemble.training.checkpoint import load_checkpoint, load_newest
from labelassemble.training.display import Display
from labelassemble.training.distributed import ALONE, Processes
from labelassemble.training.loop import Outcome, Validation, fit
from labelassemble.version import __version__
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.choice import choose_backend, open_views
from labelassemble.views.policy import ViewOptions


@dataclass(frozen=True)
class TrainedModel:
    """A network from a checkpoint, with what is needed to feed it.

    Attributes:
        net: in eval mode, on the CPU.
        views: size, channels and normalisation that it was trained with.
        interest: classes by which the checkpoint was chosen.
        epoch: epochs that it was trained for.
    """

    net: AssembleNet
    views: ViewOptions
    interest: tuple[str, ...]
    epoch: int


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


def train_run(
    config: Config, run: Path, *, resume: bool, console: Console, processes: Processes = ALONE
) -> Result:
    """Assemble, train, predict, evaluate and report; the run's folder gets all of it.

    Args:
        config: a validated configuration.
        run: the folder; made if need be.
        resume: go on from the folder's last checkpoint; without one, begin.
        console: shows what is assembled, and progress.
        processes: that train together; the first alone reads tables and writes, and evaluates in the end.

    Raises:
        LabelAssembleError: the folder holds another run, no training image, a class that no source labels, ...
        TrainingInterrupted: on Ctrl-C; the last checkpoint is in the folder.
        OtherProcessFailed: another process raised one of these.
    """
    if not processes.first:
        console = Console(quiet=True)
    assembly = processes.from_first(lambda: _begin(config, run, resume=resume, console=console))
    table, targets, options = assembly.table, assembly.targets(), config.train
    interest = _interest(config, table)
    rows = {split: np.flatnonzero(table.splits == split) for split in ("train", "val")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        net = AssembleNet(
            config.model.backbone,
            classes=table.classes,
            head=config.model.head,
            in_channels=config.views.channels,
            pretrained=config.model.pretrained,
        )
    device = processes.together(lambda: _device(options.device, processes))
    net.to(device)
    choice = choose_backend(config.views, device)
    console.print(f"Views are made by {choice.name}: {choice.reason}", highlight=False, soft_wrap=True)
    train_paths: list[str] = table.paths[rows["train"]].tolist()
    view_options = config.views
    if processes.local_count > 1:  # the processes of a machine share its processors
        threads = max(1, config.views.decoders() // processes.local_count)
        view_options = config.views.model_copy(update={"threads": threads})
    views = open_views(
        choice,
        train_paths,
        targets[rows["train"]],
        view_options,
        batch_size=options.batch_size,
        seed=options.seed,
        steps_per_epoch=options.steps_per_epoch,
        shard=processes.rank,
        shards=processes.count,
        parts=options.accumulate,
        sources=table.sources[rows["train"]].tolist() if options.sampling == "balanced" else None,
        device=device,
    )
    validation = Validation(
        paths=table.paths[rows["val"]].tolist(),
        targets=targets[rows["val"]],
        views=view_options,
        auroc=partial(auroc_per_class, classes=table.classes),
        interest=[table.classes.index(name) for name in interest],
        bad_files=_bad_files(len(rows["val"]), config.views),
    )
    last = run / "checkpoints" / "last.pt"
    checkpoint = processes.from_first(lambda: load_newest(last) if resume and last.exists() else None)
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
            train_targets=targets[rows["train"]],
            description=_description(config, table.classes, interest),
            resume=checkpoint,
            display=display,
            processes=processes,
        )
    return Result(run, outcome, evaluate_run(run) if processes.first else None)


def _begin(config: Config, run: Path, *, resume: bool, console: Console) -> Assembly:
    """Assemble, and write what a run's folder holds before training; nothing is written if something is wrong."""
    if resume:
        _check_same(config, run)
    elif (run / "config.yaml").exists():
        raise LabelAssembleError(
            f"{run} holds a run already: go on with it by --resume, or choose another folder with --output"
        )
    assembly = assemble_config(config, console)
    table = assembly.table
    _interest(config, table)
    if not (table.splits == "train").any():
        raise LabelAssembleError(
            "no image is in the training split: check the sources' split columns and split.val, split.test"
        )
    console.print(assembly.report.to_text(), highlight=False, markup=False, soft_wrap=True)
    missing = missing_files(table.paths)  # few of them are left out as they are met, like other bad files
    if missing and (
        config.views.bad_files == "stop" or len(missing) > config.views.bad_files_limit * len(table.paths)
    ):
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LabelAssembleError(f"an image of the table does not exist: {missing[0]}{more}")

    run.mkdir(parents=True, exist_ok=True)
    table.to_csv(run / "table.csv")
    if assembly.hidden is not None:  # labels taken away by `hide`, for evaluation alone
        assembly.hidden.to_csv(run / "hidden.csv")
    _write_text(run / "environment.json", json.dumps(environment(), indent=2) + "\n")
    _write_text(run / "config.yaml", config.to_yaml())
    return assembly


def assemble_config(config: Config, console: Console) -> Assembly:
    """Return the assembly of a configuration's sources; looking for duplicates shows its progress on a terminal.

    Raises:
        LabelAssembleError: what `assemble` raises.
    """
    with image_progress(console, "looking for duplicates") as advance:
        return assemble(
            config.sources,
            classes=config.classes,
            split=config.split,
            taxonomy=config.load_taxonomy(),
            duplicates=config.duplicates,
            workers=config.views.decoders(),
            progress=advance,
        )


@contextmanager
def image_progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function (images done, images in all) that moves a bar on a terminal and does nothing elsewhere."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def evaluate_run(run: Path, *, comparisons: Sequence[Comparison] = ()) -> Evaluation | None:
    """Predict the validation and test images with the best checkpoint, evaluate, and write the report anew.

    Args:
        run: the folder of a run that has a best checkpoint.
        comparisons: other runs to show beside this one in the report.

    Returns:
        The evaluation on the test images; None if the run has none.

    Raises:
        LabelAssembleError: the folder holds no finished epoch, or an image is gone.
    """
    trained = load_trained(run)
    table = Table.from_csv(run / "table.csv")
    held_out = table.select(table.splits != "train")
    similarity = trained.net.head.similarity() if isinstance(trained.net.head, ClassQueryHead) else None
    evaluation = None
    if len(held_out.paths):
        probabilities = predict(
            trained.net,
            held_out.paths.tolist(),
            trained.views,
            bad_files=_bad_files(len(held_out.paths), trained.views),
        )
        read = ~np.isnan(probabilities).any(axis=1)
        held_out, probabilities = held_out.select(read), probabilities[read]
        predictions = Predictions(
            classes=held_out.classes,
            paths=held_out.paths,
            names=held_out.names,
            sources=held_out.sources,
            groups=held_out.groups,
            splits=held_out.splits,
            labels=held_out.labels,
            assumed=held_out.assumed,
            probabilities=probabilities,
        )
        write_predictions(predictions, run / "predictions.csv")
        if (held_out.splits == "test").any():
            evaluation = evaluate(predictions)
    write_report(
        run,
        evaluation=evaluation,
        similarity=None if similarity is None else similarity.numpy(),
        comparisons=comparisons,
    )
    return evaluation


def load_trained(run: Path) -> TrainedModel:
    """Return the network of a run's best checkpoint.

    Raises:
        LabelAssembleError: no such run, or no epoch of it is finished.
    """
    path = run / "checkpoints" / "best.pt"
    if not path.exists():
        raise LabelAssembleError(f"{run} holds no trained model: {path} does not exist")
    checkpoint = load_checkpoint(path)
    description = checkpoint["description"]
    views = ViewOptions.model_validate_json(description["views"])
    model = ModelOptions.model_validate_json(description["model"])
    net = AssembleNet(
        model.backbone,
        classes=json.loads(description["classes"]),
        head=model.head,
        in_channels=views.channels,
    )
    net.load_state_dict(checkpoint["model"])
    return TrainedModel(
        net=net.eval(),
        views=views,
        interest=tuple(json.loads(description["interest"])),
        epoch=checkpoint["epoch"],
    )


def export_run(run: Path, output: Path | None = None) -> ExportSummary:
    """Export a run's best checkpoint as TorchScript, compared with eager on the run's own held-out images.

    Args:
        run: the folder of a run that has a best checkpoint.
        output: the file to write; default: model.pt in the run's folder.

    Raises:
        LabelAssembleError: no trained model, an unreadable image, or an export that differs from eager.
    """
    trained = load_trained(run)
    table = Table.from_csv(run / "table.csv")
    held_out = table.paths[table.splits != "train"]
    sample = (held_out if len(held_out) else table.paths)[:16]
    return export_torchscript(
        trained.net,
        output or run / "model.pt",
        classes=trained.net.classes,
        preprocess=trained.views.preprocess(),
        interest=trained.interest,
        images=[decode_image(str(path)) for path in sample],
    )


def write_probabilities(
    path: Path | None, classes: Sequence[str], images: Sequence[str], probabilities: np.ndarray
) -> None:
    """Write ``path,probability:<class>,...`` as CSV, a row an image, to a file or (None) to standard output."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", *(f"probability:{name}" for name in classes)])
    for image, row in zip(images, probabilities, strict=True):
        writer.writerow([image, *(f"{value:.9g}" for value in row)])
    if path is None:
        sys.stdout.write(buffer.getvalue())
    else:
        _write_text(path, buffer.getvalue())


def environment() -> dict[str, Any]:
    """Return versions and machine, as kept in a run's environment.json."""
    return {
        "labelassemble": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "cpu_capability": _extension.cpu_capability(),
        "native": _extension.NATIVE,
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor_name() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _check_same(config: Config, run: Path) -> None:
    """Raise unless the folder's configuration, if it has one, is this one."""
    path = run / "config.yaml"
    if not path.exists():
        return
    before, now = load_config(path).model_dump(mode="json"), config.model_dump(mode="json")
    for key in now:
        if before[key] != now[key]:
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


def _bad_files(total: int, views: ViewOptions) -> BadFiles:
    return BadFiles(total, policy=views.bad_files, limit=views.bad_files_limit)


def _description(config: Config, classes: Sequence[str], interest: Sequence[str]) -> dict[str, str]:
    return {
        "classes": json.dumps(list(classes)),
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


def _write_text(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
