"""The reference of the command line, written from the commands themselves."""

import inspect
import re
import subprocess
from typing import Any

import typer.core
import typer.main

from labelassemble import LabelAssembleError
from labelassemble.cli import app
from labelassemble.export import find_program


def render() -> str:
    """Return the page's body in Markdown: each command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    parts = [_command(name, command) for name, command in group.commands.items()]
    parts += [_program("labelassemble-serve"), _program("labelassemble-predict")]
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    arguments = [item for item in command.params if isinstance(item, typer.core.TyperArgument)]
    options = [item for item in command.params if item not in arguments and item.name != "help"]
    usage = " ".join(
        ["labelassemble", name, *(["[OPTION]..."] if options else []), *(_usage(item) for item in arguments)]
    )
    lines = [f"## `{name}`", "", inspect.cleandoc(command.help or ""), "", "```text", usage, "```", ""]
    lines += [_parameter(f"`{item.metavar or item.name.upper()}`", item) for item in arguments]
    lines += [_parameter(_option(item), item) for item in options]
    return "\n".join(lines)


def _usage(item: Any) -> str:
    word = item.metavar or item.name.upper()
    many = "" if item.nargs == 1 or "..." in word else "..."
    return f"{word}{many}" if item.required else f"[{word}]{many}"


def _option(item: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*item.opts, *item.secondary_opts])
    return names if item.is_flag else f"{names} *{item.metavar or 'VALUE'}*"


def _parameter(title: str, item: Any) -> str:
    text = re.sub(r"\s+", " ", item.help or "").strip() or "Changes to the configuration, e.g. train.lr=1e-4"
    text = text if text.endswith(".") else f"{text}."
    default = item.default
    if default is not None and default is not False and default != () and not callable(default):
        text += f" Default: `{default}`."
    return f"{title}\n: {text}\n"


def _program(name: str) -> str:
    """Return what a C++ program says of itself, or why it does not."""
    lines = [f"## `{name}`", ""]
    try:
        program = find_program(name)
    except LabelAssembleError:
        lines.append(f"`{name}` was not built where this page was made: `{name} --help` shows its options.")
    else:
        shown = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
        lines += ["```text", shown.rstrip(), "```"]
    return "\n".join([*lines, ""])
