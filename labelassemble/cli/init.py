"""The command that writes a first configuration."""

import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from labelassemble.cli.app import app
from labelassemble.errors import LabelAssembleError


@app.command()
def init(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of a dataset or of images, or a table of labels.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="YAML to write; default: NAME.yaml here.", dir_okay=False),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the source; default: that of DATA.")] = None,
    path_column: Annotated[str | None, typer.Option(help="Column with the path of each image.")] = None,
    patient_column: Annotated[str | None, typer.Option(help='Column with the patient; "" for none.')] = None,
    split_column: Annotated[str | None, typer.Option(help='Column with the split; "" for none.')] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column with the name of the class, or several with | between.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Columns that are classes, in cells 1, 0, -1, -2 or blank."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that the paths of images start at.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Table of labels of a folder of DICOM files.")] = None,
    others: Annotated[
        str, typer.Option(help="What a class is that a row or a folder does not name: negative or unknown.")
    ] = "negative",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Find out what a folder or a table holds, and write a configuration that assembles it.

    Known datasets are recognised by their files. Of a table the columns are told by their names and by what they hold;
    on a terminal each guess is a question. A table that names classes in words, and folders named after classes, become
    a CSV with a column per class beside the configuration.
    """
    from labelassemble.init.check import check_config
    from labelassemble.init.proposal import to_yaml
    from labelassemble.init.propose import Answers, propose

    if others not in ("negative", "unknown"):
        raise LabelAssembleError(f"--others must be negative or unknown, got '{others}'")
    called = name or data.resolve().name.split(".")[0] or "data"
    config = output or Path(f"{called}.yaml")
    if config.suffix not in (".yaml", ".yml"):
        raise LabelAssembleError(f"--output must end in .yaml, got '{config}'")
    if config.exists() and not overwrite:
        raise LabelAssembleError(
            f"{config} is there already: add --overwrite, or choose another file with --output"
        )
    columns = {"path": path_column, "patient": patient_column, "split": split_column, "label": label_column}
    answers = Answers(
        called,
        {use: column for use, column in columns.items() if column is not None},
        tuple(part.strip() for part in classes.split(",")) if classes else (),
        root,
        labels,
        cast(Literal["negative", "unknown"], others),
        overwrite,
    )
    proposal = propose(data, answers, _ask if sys.stdin.isatty() else _default, config)
    print(check_config(config, to_yaml(proposal, config)), end="")
    for remark in proposal.remarks:
        print(f"labelassemble: {remark}", file=sys.stderr)
    print(f"\nConfiguration: {config}\nNext: labelassemble assemble {config}")


def _ask(question: str, default: str) -> str:
    return str(typer.prompt(question, default=default))


def _default(question: str, default: str) -> str:
    return default
