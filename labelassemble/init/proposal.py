"""What `labelassemble init` writes: a source's keys, each with the reason for its value."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Proposal:
    """A source.

    Attributes:
        values: its keys.
        why: a comment for some of them.
        hints: further lines of the configuration, written as comments.
        remarks: what is to be said to the user.
        section: the keys of `volumes`, each with why; empty for images.
    """

    values: dict[str, Any]
    why: dict[str, str] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    section: dict[str, tuple[object, str]] = field(default_factory=dict)

    def add(self, key: str, value: object, why: str = "") -> None:
        """Set a key and say why."""
        self.values[key] = value
        if why:
            self.why[key] = why


def to_yaml(proposal: Proposal, config: Path) -> str:
    """Return the configuration as text; files below the folder of `config` are written relative to it."""
    folder = config.resolve().parent
    lines = [
        f"# labelassemble assemble {config.name}    says what is labelled; nothing is trained",
        f"# labelassemble train {config.name}       trains on it",
        "sources:",
    ]
    mark = "  - "
    for key, value in proposal.values.items():
        if isinstance(value, Path):
            value = _relative(value, folder)
        comment = f"  # {proposal.why[key]}" if key in proposal.why else ""
        lines.append(f"{mark}{key}: {_scalar(value)}{comment}")
        mark = "    "
    if proposal.values.get("reader") == "volumes":
        lines.append("volumes:" if proposal.section else "volumes: {}")
    for key, (value, why) in proposal.section.items():
        lines.append(f"  {key}: {_scalar(value)}" + (f"  # {why}" if why else ""))
    lines += [f"# {hint}" for hint in proposal.hints]
    return "\n".join(lines) + "\n"


def _relative(path: Path, folder: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def _scalar(value: object) -> str:
    """Return a value on one line, as YAML that is read back as the same."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_scalar(item)}" for key, item in value.items()) + "}"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value.replace(" ", "").replace("-", "").replace("_", "").replace("/", "").replace(".", "")
    if plain.isalnum() and plain.isascii() and value == value.strip() and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)
