"""The reference of the Python names, written from the lists `__all__` of the rooms that users import from."""

import importlib
import inspect
from types import ModuleType

from pydantic import BaseModel

PAGES = (
    ("labelassemble", "The drop-ins and the network."),
    ("labelassemble.functional", "The ops as functions; also there as `torch.ops.labelassemble.*`."),
    ("labelassemble.data", "Tables of labels, and assembling them."),
    ("labelassemble.evaluation", "The numbers of a report, for predictions of any model."),
    ("labelassemble.export", "Writing a model for a program without Python, and finding the C++ part."),
)


def render() -> str:
    """Return the page's body in reStructuredText: every public name with its docstring."""
    parts = []
    done: set[int] = set()
    for name, about in PAGES:
        module = importlib.import_module(name)
        parts.append(f"{name}\n{'-' * len(name)}\n\n{about}\n")
        for member in _in_order(module):
            value = getattr(module, member)
            if id(value) not in done and not isinstance(value, (str, ModuleType)):
                parts += _directives(name, member, value)
            done.add(id(value))
    return "\n".join(parts)


def _in_order(module: ModuleType) -> list[str]:
    """Return the public names: classes first, then functions, then the rest."""
    rank = {name: _rank(getattr(module, name)) for name in module.__all__}
    return sorted(module.__all__, key=lambda name: (rank[name], name.lower()))


def _rank(value: object) -> int:
    return 0 if inspect.isclass(value) else 1 if callable(value) else 2


def _directives(module: str, name: str, value: object) -> list[str]:
    full = f"{module}.{name}"
    if inspect.isclass(value) and issubclass(value, BaseModel):
        if (hasattr(value, "model_fields") and "name" in value.model_fields) or name.endswith("Options"):
            return []  # a part of the configuration, which has a page of its own
        return [f".. autoclass:: {full}\n   :exclude-members: model_config\n"]
    if inspect.isclass(value):
        return [f".. autoclass:: {full}\n   :members:\n   :exclude-members: extra_repr\n"]
    if callable(value):
        return [f".. autofunction:: {full}\n"]
    return [f".. autodata:: {full}\n   :no-value:\n"]
