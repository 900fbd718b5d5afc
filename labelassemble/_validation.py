"""What pydantic finds wrong, as one sentence."""

import difflib
import re
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from labelassemble.errors import did_you_mean

_PLAIN: Final = {  # where pydantic speaks of Python's classes
    "path_type": "input should be a path",
    **dict.fromkeys(("tuple_type", "list_type"), "input should be a list, such as [a, b]"),
    **dict.fromkeys(
        ("dict_type", "model_type", "model_attributes_type", "mapping_type"),
        "input should be keys with values, {key: value}",
    ),
}


def validation_sentence(error: ValidationError, *models: type[BaseModel]) -> str:
    """Return the first error as a sentence: the key, the rule and what came.

    Args:
        error: of validating one of the models.
        models: that the error may be of, told apart by the title that pydantic gives; keys of the first are named by
            themselves, those of another as of that model.
    """
    # Unknown keys first: a misspelt key often makes another one missing.
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    location = [part for part in first["loc"] if isinstance(part, (str, int))]
    model = next((model for model in models if model.__name__ == error.title), models[0])
    keys, parent = _walk(model, location[:-1])
    if location:
        keys += _walk(parent, location[-1:])[0]
    shown = ".".join(keys)
    if first["type"] == "extra_forbidden":
        parent = _strip(parent)
        known = list(parent.model_fields) if _is_model(parent) else []
        place = "" if model is models[0] else f" of {error.title}"
        return f"unknown key '{shown}'{place}{did_you_mean(str(location[-1]), known)}"
    if first["type"] == "missing":
        return f"the key '{shown}' is missing"
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        readers = sorted(_readers(_walk(model, location)[1]))
        tag = first.get("ctx", {}).get("tag")
        if tag is None:
            keys = list(first["input"]) if isinstance(first.get("input"), dict) else []
            near = difflib.get_close_matches("reader", map(str, keys), n=1, cutoff=0.6)
            if near:
                return f"unknown key '{shown}.{near[0]}', did you mean 'reader'?"
            return f"the key '{shown}.reader' is missing, known readers: {', '.join(readers)}"
        return f"unknown reader '{tag}' in '{shown}'{did_you_mean(str(tag), readers)}"
    if first["type"] == "too_short" and not first.get("input"):
        return f"'{shown}' must have at least one entry, got none"
    if first["type"] == "literal_error":
        expected = first.get("ctx", {}).get("expected", "")
        hint = did_you_mean(str(first.get("input")), re.findall(r"'([^']*)'", expected))
        if "did you mean" in hint:
            return f"'{shown}' must be {expected}, got {first.get('input')!r}{hint}"
    message = first["msg"].removeprefix("Value error, ")
    message = _PLAIN.get(first["type"], message)
    message = message[0].lower() + message[1:]
    value = first.get("input")
    came = "" if isinstance(value, (dict, list, tuple)) else f", got {value!r}"
    return f"'{shown}': {message}{came}" if shown else message  # a rule between sections names its keys


def _walk(annotation: Any, location: Sequence[str | int]) -> tuple[list[str], Any]:
    """Return the keys to show for a location, without the tags of a union, and what stands there; None if unknown."""
    keys = []
    for part in location:
        annotation = _strip(annotation)
        if part in (members := _members(annotation)):
            annotation = members[str(part)]
            continue
        if get_origin(annotation) in (Union, UnionType):  # the part is the tag of one of its types
            models = {kind.__name__: kind for kind in map(_strip, get_args(annotation)) if _is_model(kind)}
            annotation = models.get(str(part))
            continue
        keys.append(str(part))
        if _is_model(annotation):
            field = annotation.model_fields.get(str(part))
            annotation = None if field is None else field.annotation
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        elif get_origin(annotation) is tuple and isinstance(part, int):
            annotation = get_args(annotation)[0]
        else:
            annotation = None
    return keys, annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _strip(annotation: Any) -> Any:
    """Return the annotation without Annotated and without None."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, UnionType):
            inner = [argument for argument in get_args(annotation) if argument is not type(None)]
            if len(inner) != 1:
                return annotation
            annotation = inner[0]
        else:
            return annotation


def _members(annotation: Any) -> dict[str, Any]:
    """Return the types of a union by their tags: readers by their names, others by what pydantic calls them."""
    annotation = _strip(annotation)
    tagged: dict[str, Any] = dict(_readers(annotation))
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            notes = get_args(member)[1:] if get_origin(member) is Annotated else ()
            tagged |= {note.tag: member for note in notes if isinstance(note, Tag)}
    return tagged


def _readers(annotation: Any) -> dict[str, type[BaseModel]]:
    """Return the models of a union of readers by their tags; none for anything else."""
    annotation = _strip(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return {tag: model for member in get_args(annotation) for tag, model in _readers(member).items()}
    if not _is_model(annotation) or "reader" not in annotation.model_fields:
        return {}
    return dict.fromkeys(get_args(annotation.model_fields["reader"].annotation), annotation)
