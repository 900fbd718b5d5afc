"""What a training begins with: the assembled images, the network, and where it goes on from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from labelassemble._files import make_folder, write_text
from labelassemble.config import Config, load_config
from labelassemble.data import Assembly, Table, missing_files
from labelassemble.data.check import wrong_roots
from labelassemble.data.csvfile import or_compressed
from labelassemble.data.table import WITH_ARTICLE
from labelassemble.errors import LabelAssembleError
from labelassemble.models import HEADS_BY_SOURCE, AssembleNet
from labelassemble.models.segmentation.segment_net import SegmentNet
from labelassemble.run.assembly import assemble_and_look
from labelassemble.run.folder import environment, load_segmenter, load_trained
from labelassemble.run.volumes import class_shares, volume_data
from labelassemble.training.checkpoint import load_newest
from labelassemble.training.collapse import known_shares
from labelassemble.training.data import TrainingData
from labelassemble.training.source_labels import SourceLabels, labels_by_source
from labelassemble.training.start import Origin, read_origin, start_network
from labelassemble.version import __version__
from labelassemble.views.sampler import even_shares


@dataclass(frozen=True)
class Start:
    """What the first process finds and makes before training, for all of them.

    Attributes:
        table: all images.
        hidden: labels taken away by `hide`, for evaluation alone.
        data: the training images.
        val_targets: float32 [N, C] of the validation images, NaN = unknown, without what is assumed or uncertain:
            nothing is chosen by it. None of volumes, whose targets are made of their masks.
        interest: classes by which the best checkpoint is chosen.
        net: as it starts, on the CPU.
        origin: where it goes on from another run.
        checkpoint: where the run itself goes on.
        notes: what was said when the images were assembled.
    """

    table: Table
    hidden: Table | None
    data: TrainingData
    val_targets: np.ndarray
    interest: tuple[str, ...]
    net: AssembleNet | SegmentNet
    origin: Origin | None
    checkpoint: dict[str, Any] | None
    notes: tuple[str, ...] = ()

    def sources(self) -> list[str]:
        """Return the source of each training image."""
        sources: list[str] = self.table.sources[self.table.splits == "train"].tolist()
        return sources

    def description(self, config: Config) -> dict[str, str]:
        """Return the texts stored in every checkpoint, with which the network can be built again."""
        return {
            "classes": json.dumps(list(self.net.classes)),
            "sources": json.dumps(self.net.sources),
            "interest": json.dumps(list(self.interest)),
            "model": config.model.without_weights().model_dump_json(),
            "labelassemble": __version__,
            **(
                {"views": config.views.model_dump_json()}
                if config.volumes is None
                else {"volumes": config.volumes.model_dump_json()}
            ),
        }

    def write(self, config: Config, run: Path) -> None:
        """Write what a run's folder holds before training."""
        make_folder(run)
        self.table.to_csv(run / "table.csv")
        write_text(run / "notes.txt", "".join(f"{note}\n" for note in self.notes))
        if self.hidden is not None:
            self.hidden.to_csv(run / "hidden.csv")
        about = environment()
        if self.origin is not None:
            write_text(run / "from.json", self.origin.model_dump_json(indent=2) + "\n")
            about["from"] = self.origin.model_dump(mode="json")
        write_text(run / "environment.json", json.dumps(about, indent=2) + "\n")
        write_text(run / "config.yaml", config.to_yaml())


def prepare(
    config: Config, run: Path, *, resume: bool, console: Console, start_from: Path | None, branch: bool
) -> Start:
    """Assemble, and make the network or find where it goes on; nothing is written.

    Args:
        config: a validated configuration.
        run: the folder of the run.
        resume: go on from the folder's last checkpoint.
        console: shows what is assembled.
        start_from: folder of a run whose best checkpoint the network goes on from.
        branch: with `resume`, the configuration may have another `loss` than the folder's.

    Raises:
        LabelAssembleError: the folder holds another run, no training image, a class that no source labels, ...
    """
    if resume:
        _check_same(config, run, but=("loss",) if branch else ())
    elif (run / "config.yaml").exists():
        raise LabelAssembleError(
            f"{run} holds a run already: go on with it by --resume, or choose another folder with --output"
        )
    last = run / "checkpoints" / "last.pt"
    checkpoint = load_newest(last) if resume and last.exists() else None
    origin, learnt = _origin(run, start_from, config, resume=resume, loaded=checkpoint is not None)
    assembly = assemble_and_look(config, console, served=True)
    table = assembly.table
    if resume:
        _check_same_splits(table, run)
    interest = _interest(config, table)
    _check_images(config, table)
    console.print(assembly.report.to_text(), highlight=False, markup=False, soft_wrap=True)
    shares = None
    if config.volumes is None:
        data, val_targets, own = _targets(config, assembly, console)
    else:
        data, own = volume_data(assembly), None
        val_targets, shares = np.empty((0, len(table.classes)), np.float32), class_shares(data)
    net, origin = start_network(
        config.model if checkpoint is None else config.model.without_weights(),
        classes=table.classes,
        sources=None if own is None else own.classes,
        channels=config.views.channels,
        size=config.views.size,
        seed=config.train.seed,
        dims=None if config.volumes is None else config.volumes.dims,
        shares=shares,
        learnt=learnt,
        origin=origin,
    )
    if config.volumes is not None and isinstance(net, SegmentNet):
        net.check_patch(config.volumes.patch)
    notes = (*assembly.report.notes, *assembly.report.split_notes)
    return Start(table, assembly.hidden, data, val_targets, interest, net, origin, checkpoint, notes)


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


def _check_same_splits(table: Table, run: Path) -> None:
    """Raise if an image that the run has held out so far would be trained on, say by another version's splits."""
    table_file = or_compressed(run / "table.csv")
    if not table_file.exists():
        return
    before = Table.from_csv(table_file)
    held_out = before.paths[before.splits != "train"]
    train = table.paths[table.splits == "train"]
    lost = train[train.isin(held_out)]
    if len(lost):
        raise LabelAssembleError(
            f"{run}: {len(lost)} {table.noun}s that the run has held out so far would be trained on, such as {lost[0]}"
            ", since its sources give other splits or other patients now: begin a new run with --output"
        )


def _interest(config: Config, table: Table) -> tuple[str, ...]:
    for name in config.interest:
        if name not in table.classes:
            raise LabelAssembleError(
                f"interest names '{name}', which is none of the classes: {', '.join(table.classes)}"
            )
    return config.interest or table.classes


def _check_images(config: Config, table: Table) -> None:
    """Raise where there are no training images, shares of sources without any, or files that do not exist."""
    train = table.splits == "train"
    if not train.any():
        raise LabelAssembleError(
            f"no {config.noun} is in the training split: check the sources' split columns and split.val, split.test"
        )
    if isinstance(config.train.sampling, dict):  # before anything is written
        even_shares(list(dict.fromkeys(table.sources[train].tolist())), config.train.sampling)
    missing = missing_files(table.paths)  # few of them are left out as they are met, like other bad files
    files = config.views if config.volumes is None else config.volumes
    if missing and (files.bad_files == "stop" or len(missing) > files.bad_files_limit * len(table.paths)):
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        roots = "".join(f"; {sentence}" for sentence in wrong_roots(table, missing))
        raise LabelAssembleError(
            f"{WITH_ARTICLE[config.noun]} of the table does not exist: {missing[0]}{more}{roots}"
        )


def _origin(
    run: Path, start_from: Path | None, config: Config, *, resume: bool, loaded: bool
) -> tuple[Origin | None, AssembleNet | SegmentNet | None]:
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
    if config.volumes is None:
        trained = load_trained(Path(origin.run))
        _check_same_options("views", ("channels", "size", "mean", "std"), trained.views, config.views)
        return origin.model_copy(update={"epoch": trained.epoch}), trained.net
    found = load_segmenter(Path(origin.run))
    keys = ("dims", "spacing", "window", "percentiles")
    _check_same_options("volumes", keys, found.volumes, config.volumes)
    return origin.model_copy(update={"epoch": found.epoch}), found.net


def _check_same_options(section: str, keys: Sequence[str], before: object, now: object) -> None:
    """Raise where a run that goes on from another has other options of what the network sees."""
    for key in keys:
        if getattr(before, key) != getattr(now, key):
            shown = "patch" if key == "dims" else key
            raise LabelAssembleError(
                f"{section}.{shown} must be that of the run that it goes on from, {getattr(before, shown)}, "
                f"got {getattr(now, shown)}"
            )


def _targets(
    config: Config, assembly: Assembly, console: Console
) -> tuple[TrainingData, np.ndarray, SourceLabels | None]:
    """Return the training images, the validation targets, and what each source labels if the head needs that."""
    table, targets = assembly.table, assembly.targets()
    train = np.flatnonzero(table.splits == "train")
    # What somebody gave as present or absent; NaN where it is assumed or uncertain too.
    given = np.where(table.known & ~table.assumed, targets, np.float32(np.nan))
    own = None
    if config.model.head in HEADS_BY_SOURCE:
        own = labels_by_source(table.select(train), targets[train], assembly.report.duplicates)
        if own.foreign:
            console.print(
                f"{own.foreign} known labels on images that several sources have are left out: with model.head "
                f"{config.model.head} an image teaches its own source's part alone",
                highlight=False,
                soft_wrap=True,
            )
    data = TrainingData(
        table.classes,
        table.paths[train].tolist(),
        targets[train] if own is None else own.targets,
        exclusions=assembly.exclusions.select(train),
        sources=None if own is None else own.indices,
        given_shares=known_shares(given[train]),
    )
    return data, given[table.splits == "val"], own
