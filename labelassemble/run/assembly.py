"""The assembly of a configuration's sources, with its progress on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from labelassemble.config import Config
from labelassemble.data import Assembly, assemble
from labelassemble.data.pixel_range import sample_pixels
from labelassemble.data.served import not_served_alike


def assemble_config(config: Config, console: Console) -> Assembly:
    """Return the assembly of a configuration's sources; looking for duplicates shows its progress on a terminal.

    Raises:
        LabelAssembleError: what `assemble` raises.
    """
    with image_progress(console, "looking for duplicates", config.noun) as advance:
        return assemble(
            config.sources,
            classes=config.classes,
            split=config.split,
            taxonomy=config.load_taxonomy(),
            subgroups=config.subgroups,
            duplicates=config.duplicates,
            workers=config.views.decoders(),
            progress=advance,
        )


def assemble_and_look(config: Config, console: Console, *, served: bool = False) -> Assembly:
    """Return the assembly, with a warning among its notes where some images of each source look wrong.

    Args:
        config: a validated configuration.
        console: shows progress.
        served: warn too of images that the programs that answer by an exported model do not read alike.

    Raises:
        LabelAssembleError: what `assemble` raises.
    """
    assembly = assemble_config(config, console)
    if (
        config.volumes is not None
    ):  # which have no grey range of their own, and their masks have been looked at
        return assembly
    with image_progress(console, "looking at some images of each source") as advance:
        found = sample_pixels(assembly.table, workers=config.views.decoders(), progress=advance)
    warnings = found.warnings() + (not_served_alike(assembly.table) if served else ())
    report = replace(assembly.report, notes=(*assembly.report.notes, *warnings))
    return replace(assembly, report=report)


@contextmanager
def image_progress(console: Console, what: str, noun: str = "image") -> Iterator[Callable[[int, int], None]]:
    """Give a function (done, in all) that moves a bar of so many `noun`s on a terminal and does nothing elsewhere."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{noun}s, left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
