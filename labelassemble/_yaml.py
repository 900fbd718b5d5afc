"""Values from YAML: a file's mapping, and ``key.key=value`` overrides put into it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from labelassemble.errors import LabelAssembleError

_TABLES: Final = (".csv", ".tsv", ".parquet")


def read_mapping(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the mapping in a YAML file, with ``key.key=value`` overrides put in.

    Raises:
        LabelAssembleError: no such file, not YAML, a key given twice, not a mapping, or a wrong override.
    """
    if path.suffix.lower() in _TABLES:
        raise LabelAssembleError(
            f"{path}: a table of labels is no configuration: a YAML file whose `sources` name it is "
            "(`labelassemble init` writes one)"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabelAssembleError(f"{path}: no such configuration file") from None
    except OSError as error:
        raise LabelAssembleError(
            f"{path}: cannot be read as a configuration ({error.strerror or error})"
        ) from error
    except UnicodeDecodeError as error:
        raise LabelAssembleError(f"{path}: cannot be read as a configuration ({error})") from error
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise LabelAssembleError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise LabelAssembleError(f"{path}: a configuration is a mapping of keys, got {_kind(values)}")
    for override in overrides:
        apply_override(values, override)
    return values


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, of which YAML would silently keep the last."""


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    merge = "tag:yaml.org,2002:merge"  # "<<: *anchor", whose keys the mapping's own replace
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' is given twice", node.start_mark
            )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Put a ``key.key=value`` into plain values, in place; a number stands for a position in a list.

    Raises:
        LabelAssembleError: it is no override, or its key leads nowhere.
    """
    dotted, separator, text = override.partition("=")
    keys = dotted.split(".")
    if not separator or not all(keys):
        raise LabelAssembleError(f"an override must look like train.lr=1e-4, got '{override}'")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise LabelAssembleError(f"the value of the override '{override}' is not valid YAML") from None
    place: Any = values
    for depth, key in enumerate(keys[:-1]):
        if isinstance(place, list):
            place = place[_index(key, place, override)]
            continue
        if place.get(key) is None:
            place[key] = {}
        place = place[key]
        if not isinstance(place, (dict, list)):
            raise LabelAssembleError(
                f"{'.'.join(keys[: depth + 1])} has no keys below it (override '{override}')"
            )
    if isinstance(place, list):
        place[_index(keys[-1], place, override)] = value
    else:
        place[keys[-1]] = value


def _index(key: str, place: list[Any], override: str) -> int:
    if not key.isdigit() or int(key) >= len(place):
        raise LabelAssembleError(f"'{key}' is no position in a list of {len(place)} (override '{override}')")
    return int(key)


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
