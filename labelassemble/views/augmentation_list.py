"""The form of a list of kornia's augmentations in a configuration; kornia itself is asked in `kornia_views`."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Discriminator, Tag


def _as_entries(value: Any) -> Any:
    """Return one mapping from a class to its arguments for each entry; a name alone stands for no arguments."""
    entries = []
    for index, entry in enumerate(value):
        if isinstance(entry, str):
            entry = {entry: {}}
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ValueError(
                f"entry {index} must be a class of kornia.augmentation with its arguments, such as "
                f"{{RandomAffine: {{degrees: 15}}}}, got {entry!r}"
            )
        (name, arguments), *_ = entry.items()
        arguments = {} if arguments is None else arguments
        if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
            raise ValueError(
                f"the arguments of entry {index}, {name}, must be a mapping by name, got {arguments!r}"
            )
        entries.append({str(name): dict(arguments)})
    return tuple(entries)


AugmentationList: TypeAlias = Annotated[tuple[dict[str, dict[str, Any]], ...], BeforeValidator(_as_entries)]
"""Classes of kornia.augmentation, each with its arguments, in the order in which they are applied."""

OPTIONS, LIST = Tag("options"), Tag("list")
FORM = Discriminator(lambda value: "list" if isinstance(value, (list, tuple)) else "options")
"""Which of two forms a view has in a configuration: the options of the built-in policy, or a list."""


def list_text(entries: AugmentationList) -> str:
    """Return a list in words: "RandomAffine(degrees=15, p=0.5), RandomErasing()"."""
    calls = []
    for entry in entries:
        for name, arguments in entry.items():
            calls.append(f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})")
    return ", ".join(calls) or "as the image is"
