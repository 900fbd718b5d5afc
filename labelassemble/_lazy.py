"""Names that a package gives without importing their modules before somebody asks: importing torch takes seconds."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def on_demand(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562) that imports a name from its module at its first use.

    Args:
        package: its `__name__`.
        homes: the names by the module below the package that holds them; a name that is itself a module stands for
            itself, as `{"functional": ["functional"]}`.
    """
    modules = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module = importlib.import_module(modules[name])
        value = module if modules[name] == f"{package}.{name}" else getattr(module, name)
        setattr(importlib.import_module(package), name, value)  # found without this function from now on
        return value

    return get
