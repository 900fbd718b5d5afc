"""The reference of the configuration, written from the pydantic models that validate it."""

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from labelassemble.config import PRESETS, Config
from labelassemble.data import SourceOptions

SIMPLE = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def render() -> str:
    """Return the page's body in Markdown: each key with its type, default and meaning."""
    parts = [_section("", Config)]
    for name, field in Config.model_fields.items():
        model = _model(field.annotation)
        if model is not None:
            parts.append(_section(name, model))
    parts.append(_sources())
    return "\n".join(parts)


def keys() -> Iterator[tuple[str, str]]:
    """Yield each key of the configuration, with the text that describes it ("" where there is none)."""
    for section, model in _models():
        for name, field in model.model_fields.items():
            if name == "reader":  # a heading of its own
                continue
            yield f"{section}.{name}".strip("."), _description(model, name, field)


def _models() -> Iterator[tuple[str, type[BaseModel]]]:
    yield "", Config
    for name, field in Config.model_fields.items():
        model = _model(field.annotation)
        if model is not None:
            yield from _nested(name, model)
    yield "sources[]", SourceOptions
    for reader, model in _readers():
        yield from _nested(f"sources[{reader}]", model)


def _nested(section: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield section, model
    for name, field in model.model_fields.items():
        inner = _model(field.annotation)
        if inner is not None:
            yield from _nested(f"{section}.{name}", inner)


def _section(path: str, model: type[BaseModel]) -> str:
    title = f"`{path}`" if path else "At the top"
    depth = "##" + "#" * path.count(".")
    lines = [f"{depth} {title}", ""]
    if path:
        lines += [_summary(model), ""]
    inner = []
    for name, field in model.model_fields.items():
        lines.append(_entry(path, model, name, field))
        nested = _model(field.annotation)
        if path and nested is not None:
            inner.append(_section(f"{path}.{name}", nested))
    return "\n".join(lines + inner)


def _sources() -> str:
    lines = ["## `sources`", "", "Each source is a mapping. These keys are the same for every reader:", ""]
    shared = SourceOptions.model_fields
    lines += [_entry("sources", SourceOptions, name, field) for name, field in shared.items()]
    for reader, model in _readers():
        lines += [f"### `reader: {reader}`", "", _summary(model), ""]
        own = {name: field for name, field in model.model_fields.items() if name not in shared}
        lines += [
            _entry("sources", model, name, field, reader) for name, field in own.items() if name != "reader"
        ]
        nested = {name: _model(field.annotation) for name, field in own.items()}
        lines += [_section(f"sources.{name}", inner) for name, inner in nested.items() if inner is not None]
    return "\n".join(lines)


def _readers() -> list[tuple[str, type[BaseModel]]]:
    """Return the readers' models, each by the names that `reader:` may take."""
    annotation: Any = Config.model_fields["sources"].annotation
    found: list[tuple[str, type[BaseModel]]] = []

    def walk(part: Any) -> None:
        if isinstance(part, type) and issubclass(part, BaseModel):
            found.append((", ".join(get_args(part.model_fields["reader"].annotation)), part))
            return
        for argument in get_args(part):
            walk(argument)

    walk(annotation)
    return found


def _entry(path: str, model: type[BaseModel], name: str, field: FieldInfo, reader: str = "") -> str:
    anchor = re.sub(r"[^a-z0-9]+", "-", f"config-{path}-{reader}-{name}".lower()).strip("-")
    nested = _model(field.annotation)
    if nested is not None or name == "sources":
        where = f"see [`{name}`](#{name})" if not path else f"see `{path}.{name}` below"
        about = where
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(value, str):  # a name, beside which the section is another form
            about = (
                f"{_type(field.annotation, field.metadata)}, {where}; default {_default(path, name, field)}"
            )
    else:
        about = _type(field.annotation, field.metadata)
        about += f"; default {_default(path, name, field)}" if not field.is_required() else "; needed"
    text = _description(model, name, field) or "(no description)"
    text = text[0].upper() + text[1:]
    return f'<a id="{anchor}"></a>`{name}`\n: {about}\n\n  {text}{"" if text.endswith(".") else "."}\n'


def _default(path: str, name: str, field: FieldInfo) -> str:
    own = _value(field.get_default(call_default_factory=True))
    for preset, sections in PRESETS.items():
        preset_value = sections.get(path, {}).get(name, PydanticUndefined)
        if preset_value is not PydanticUndefined:
            return f"`{_value(preset_value)}` with `preset: {preset}`, else `{own}`"
    return f"`{own}`"


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and not value:
        return '""'
    return f"{value:g}" if isinstance(value, float) else str(value)


def _type(annotation: Any, metadata: list[Any]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    bounds = _bounds(metadata)
    if origin is Annotated:
        return _type(arguments[0], [*arguments[1:], *metadata])
    if origin in (Union, UnionType):
        words = [_type(argument, metadata) for argument in arguments if argument is not NoneType]
        return ", or ".join(words) + (", or null" if NoneType in arguments else "")
    if origin is Literal:
        words = [f"`{_value(argument)}`" for argument in arguments]
        return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" or {words[-1]}"
    if (origin is tuple and arguments[-1] is Ellipsis) or origin is list:
        return f"list of {_plural(_type(arguments[0], []))}{bounds}"
    if origin is tuple:
        return "list of " + " and ".join(_type(argument, []) for argument in arguments)
    if origin is dict:
        return f"mapping from name to {_type(arguments[1], [])}"
    if isinstance(annotation, type) and annotation in SIMPLE:
        return SIMPLE[annotation] + bounds
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping of " + ", ".join(f"`{name}`" for name in annotation.model_fields)
    return getattr(annotation, "__name__", str(annotation)) + bounds


def _plural(words: str) -> str:
    first = words.split(",")[0]
    return words.replace(first, f"{first}s", 1) if first in SIMPLE.values() and first != "text" else words


def _bounds(metadata: list[Any]) -> str:
    found = []
    for item in metadata:
        parts = getattr(item, "metadata", None) if isinstance(item, FieldInfo) else [item]
        for part in parts or []:
            for attribute, words in BOUNDS.items():
                bound = getattr(part, attribute, None)
                if bound is not None:
                    found.append(f"{words} {bound:g}")
            if getattr(part, "min_length", None):
                found.append(f"at least {part.min_length} of them")
    return f", {' and '.join(found)}" if found else ""


def _description(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    text = field.description
    if text is None:
        for base in model.__mro__:
            text = _attributes(base).get(name)
            if text:
                break
    nested = _model(field.annotation)
    if not text and nested is not None:
        text = _summary(nested)
    text = re.sub(r"\s+", " ", text or "").strip().replace("<", "&lt;")
    return re.sub(r"\bNone\b", "null", text)


def _attributes(model: type) -> dict[str, str]:
    """Return what the docstring's section "Attributes:" says of each."""
    lines = inspect.cleandoc(model.__dict__.get("__doc__") or "").splitlines()
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in lines:
        if re.fullmatch(r"\w+:", line):
            inside = line == "Attributes:"
        elif inside and (match := re.match(r" {4}(\w+): (.*)", line)):
            name = match[1]
            found[name] = match[2]
        elif inside and line.startswith(" " * 8):
            found[name] += " " + line.strip()
        elif line and not line.startswith(" "):
            inside = False
    return found


def _summary(model: type[BaseModel]) -> str:
    """Return the docstring up to its sections."""
    text = inspect.cleandoc(model.__doc__ or "")
    return re.split(r"^\w+:$", text, flags=re.MULTILINE)[0].strip()


def _model(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a section, None for a value; a section may have another form beside it, such as a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated):
        found = [model for argument in get_args(annotation) if (model := _model(argument)) is not None]
        return found[0] if len(found) == 1 else None
    return None
