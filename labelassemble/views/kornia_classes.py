"""A class of kornia.augmentation by its name, with arguments from a configuration that are checked against it."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NamedTuple, Union, get_args, get_origin, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.views.seeded import Seeded

_INSTALL: Final = "pip install 'kornia>=0.9'"
_NOT_FOR_A_VIEW: Final = {
    "Normalize": "views.mean and views.std do that after the view is made",
    "Denormalize": "the values of a view are 0..1 already",
}
_WORDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class Augmentation(NamedTuple):
    """A class of kornia's with its arguments.

    Attributes:
        module: what is applied to an image [1, C, *spatial].
        draws: whether it draws random numbers while it is applied too, and not only before.
    """

    module: nn.Module
    draws: bool

    @property
    def name(self) -> str:
        """What kornia calls it."""
        return type(self.module).__name__


def make_augmentation(
    name: str, arguments: Mapping[str, Any], place: str, shape: tuple[int, ...]
) -> Augmentation:
    """Return an augmentation, tried once on an image of this shape, [C, *spatial].

    Raises:
        LabelAssembleError: kornia is missing, has no such class or argument, or refuses a value; names the key, which
            begins with `place`.
    """
    kind = _class(name, place)
    key = f"{place}.{name}"
    signature = inspect.signature(kind).parameters
    known = [known for known, one in signature.items() if one.kind is not one.VAR_KEYWORD]
    for argument in arguments:
        if argument not in known:
            raise LabelAssembleError(f"unknown key '{key}.{argument}'{did_you_mean(argument, known)}")
    for needed in known:
        if signature[needed].default is signature[needed].empty and needed not in arguments:
            raise LabelAssembleError(f"the key '{key}.{needed}' is missing")
    hints = get_type_hints(kind.__init__)
    values = {name: _value(value, hints[name], f"{key}.{name}") for name, value in arguments.items()}
    for share in ("p", "p_batch"):
        if share in values and not 0 <= values[share] <= 1:
            raise LabelAssembleError(f"'{key}.{share}' must be from 0 to 1, got {values[share]:g}")
    always = {"p": 1.0} if "p" in known else {}
    draws = _try(_made(kind, values | always, key), key, shape)
    return Augmentation(_made(kind, values, key), draws)


def _class(name: str, place: str) -> Any:
    """Return the class of kornia.augmentation that changes one image at a time."""
    try:
        kornia = import_module("kornia.augmentation")
    except ImportError as error:
        raise LabelAssembleError(
            f"'{place}' is a class of kornia.augmentation, and kornia cannot be imported ({error}): {_INSTALL}"
        ) from None
    bases = (kornia.AugmentationBase2D, kornia.AugmentationBase3D)
    mixing = kornia.MixAugmentationBaseV2
    classes = {one: kind for one, kind in vars(kornia).items() if inspect.isclass(kind) and "Base" not in one}
    usable = [
        one for one, kind in classes.items() if issubclass(kind, bases) and not issubclass(kind, mixing)
    ]
    if name in _NOT_FOR_A_VIEW:
        raise LabelAssembleError(f"'{place}' must not be {name}: {_NOT_FOR_A_VIEW[name]}")
    if name in usable:
        return classes[name]
    if name not in classes:
        raise LabelAssembleError(
            f"unknown class '{name}' of kornia.augmentation in '{place}'{did_you_mean(name, usable)}"
        )
    why = "it mixes images or their parts" if issubclass(classes[name], mixing) else "it holds others"
    raise LabelAssembleError(f"'{place}' must be a class that changes one image, and {name} does not: {why}")


def _value(value: Any, annotation: Any, key: str) -> Any:
    """Return a value of a configuration as kornia's signature wants it: a list as a tuple, say."""
    if annotation is Tensor:
        try:
            return torch.tensor(value, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            raise LabelAssembleError(f"'{key}' must be a list of numbers, got {value!r}") from None
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    try:
        return adapter.validate_python(value)
    except ValidationError:
        raise LabelAssembleError(f"'{key}' must be {_words(annotation)}, got {value!r}") from None


def _words(annotation: Any) -> str:
    """Return a type of kornia's signature in words, but for what YAML cannot give."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin in (Union, UnionType):
        texts = [_words(one) for one in arguments if one is not NoneType]
        return ", or ".join(dict.fromkeys(text for text in texts if text))
    if origin is tuple and Ellipsis not in arguments:
        inner = "lists" if get_origin(arguments[0]) is tuple else "numbers"
        return f"a list of {len(arguments)} {inner}"
    if origin is not None:
        return "a list"
    return _WORDS.get(annotation, "")


def _made(kind: Any, values: Mapping[str, Any], key: str) -> nn.Module:
    try:
        module: nn.Module = kind(**values)
    except Exception as error:  # whatever kornia raises is about what it was given
        raise LabelAssembleError(f"'{key}': kornia refuses these arguments ({reason_of(error)})") from None
    return module


def _try(module: nn.Module, key: str, shape: tuple[int, ...]) -> bool:
    """Return whether an augmentation draws while it is applied.

    Raises:
        LabelAssembleError: it cannot be applied to an image of this shape, or changes the shape.
    """
    image = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0))
    shown = " x ".join(map(str, shape))
    three = len(shape) == 4
    if three != isinstance(module, import_module("kornia.augmentation").AugmentationBase3D):
        whose = "names end in 3D, for volumes" if three else "names do not end in 3D, for images and slices"
        raise LabelAssembleError(f"'{key}' must be one of kornia's classes whose {whose}")
    try:
        seeded = Seeded(0)
        with seeded:
            params = module.forward_parameters(image.shape)  # type: ignore[operator]
            before = seeded.draws
            result = module(image, params=params)
    except Exception as error:
        raise LabelAssembleError(
            f"'{key}': kornia cannot apply it to an image of {shown} ({reason_of(error)})"
        ) from None
    if result.shape != image.shape:
        came = " x ".join(map(str, result.shape[1:]))
        raise LabelAssembleError(f"'{key}' must keep the size of an image, {shown}, and makes it {came}")
    if not bool(torch.isfinite(result).all()):
        raise LabelAssembleError(f"'{key}' makes values that are not finite of values in 0..1")
    return seeded.draws > before


def reason_of(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
