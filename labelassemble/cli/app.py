"""What the commands share: the application they belong to, the argument RUN, and an end by Ctrl-C."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from labelassemble.errors import LabelAssembleError

app = typer.Typer(
    name="labelassemble",
    help="Learn one model from datasets that label different things.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder of a run, as `labelassemble train` leaves it.")
]
Bits = Annotated[
    int | None,
    typer.Option(
        "--bits",
        min=8,
        max=16,
        help="Bits of grey values, as the option `bits` of a source: 12 for 0 to 4095.",
    ),
]
StoredOrientation = Annotated[
    bool,
    typer.Option(
        "--ignore-orientation", help="Leave images as they are stored, as `orientation: ignore` of a source."
    ),
]

Prevalence = Annotated[
    list[str] | None,
    typer.Option(
        "--prevalence",
        metavar="CLASS=SHARE",
        help="State predictive values at this prevalence, such as COVID-19=0.02; may be repeated.",
    ),
]


def prevalences(given: Sequence[str] | None) -> dict[str, float]:
    """Return the shares by class that --prevalence gives."""
    found: dict[str, float] = {}
    for text in given or ():
        name, _, share = text.rpartition("=")
        if name in found:
            raise LabelAssembleError(f"--prevalence gives '{name}' twice")
        try:
            found[name] = float(share)
        except ValueError:
            name = ""
        if not name:
            raise LabelAssembleError(f"--prevalence must be CLASS=SHARE, such as COVID-19=0.02, got '{text}'")
    return found


def image_references(images: Sequence[Path], bits: int | None, ignore_orientation: bool) -> list[str]:
    """Return the images with how they are decoded behind them."""
    from labelassemble.data.decoding import Decoding, reference

    how = Decoding(bits, "ignore" if ignore_orientation else "exif")
    return [reference(str(image), how) for image in images]


def keep_freed_memory() -> None:
    """Make inference on the CPU quicker (`labelassemble.export.keep_freed_memory`) where the native part was built."""
    from labelassemble.export.native import keep_freed_memory as keep

    with suppress(LabelAssembleError):
        keep()


@contextmanager
def interruptible(how: str, *, say: bool = True) -> Iterator[None]:
    """Turn a Ctrl-C into a sentence that says how to go on, and exit status 130."""
    from labelassemble.training.distributed import OtherProcessFailed
    from labelassemble.training.interrupt import TrainingInterrupted

    try:
        yield
    except OtherProcessFailed:  # which says what went wrong
        raise typer.Exit(2) from None
    except TrainingInterrupted as stop:
        if say:
            print(f"\nStopped in epoch {stop.epoch + 1} after step {stop.step}; {how}", file=sys.stderr)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        print(f"\nStopped at once; {how}", file=sys.stderr)
        raise typer.Exit(130) from None


def check_not_input(output: Path, inputs: Sequence[Path]) -> None:
    """Raise where a file to be written is one of those that are read."""
    from labelassemble.data.decoding import stored_file

    for path in map(stored_file, map(str, inputs)):
        if output.resolve() == path.resolve() or (
            output.exists() and path.exists() and output.samefile(path)
        ):
            raise LabelAssembleError(
                f"--output {output} would replace what is read, {path}: choose another name"
            )
