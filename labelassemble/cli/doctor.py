"""The command that says what is installed."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from labelassemble.cli.app import app


@app.command()
def doctor(
    cmake_path: Annotated[
        bool,
        typer.Option(
            "--cmake-path",
            help="Only print the folder by which CMake finds the C++ library: "
            'cmake -DCMAKE_PREFIX_PATH="$(labelassemble doctor --cmake-path)" (in Python: '
            "labelassemble.export.cmake_path()).",
        ),
    ] = False,
) -> None:
    """Say what is installed, what was built, and why not where something was not."""
    from labelassemble.doctor import examine

    if cmake_path:
        from labelassemble.export.native import cmake_path as folder_for_cmake

        print(folder_for_cmake())
        return
    findings = examine()
    table = RichTable(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    marks = {True: "[green]ok[/green]", False: "[red]no[/red]", None: "  "}
    for finding in findings:
        table.add_row(f"{marks[finding.good]} {escape(finding.name)}", escape(finding.what))
    Console().print(table, highlight=False)
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)
