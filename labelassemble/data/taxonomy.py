"""The taxonomy: one name a class, its synonyms, and what a label of one class says about another."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from labelassemble.errors import LabelAssembleError, did_you_mean

SHIPPED: Final = ("thorax",)
"""Taxonomies inside the package, to be named instead of a file."""


class TaxonomyClass(BaseModel):
    """One class: its name, what else it is called, and the classes that a positive label of it implies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    synonyms: tuple[str, ...] = ()
    implies: tuple[str, ...] = ()


class Taxonomy(BaseModel):
    """Names, synonyms and implications of classes; aligning two sources goes by these names.

    Case, spaces, "_", "-" and "." make no difference between two spellings of a name.

    Attributes:
        classes: The classes.
        no_finding: The class that says "none of the findings": where it is positive, each class that the source labels,
            `exempt` aside, is negative.
        exempt: Classes that are no findings, such as "Support Devices".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[TaxonomyClass, ...]
    no_finding: str | None = None
    exempt: tuple[str, ...] = ()
    _names: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _index(self) -> Self:
        for item in self.classes:
            for spelling in (item.name, *item.synonyms):
                other = self._names.setdefault(spelling_key(spelling), item.name)
                if other != item.name:
                    raise ValueError(f"'{spelling}' stands for both '{other}' and '{item.name}'")
        for item in self.classes:
            for name in item.implies:
                if name not in self.names:
                    raise ValueError(
                        f"'{item.name}' implies '{name}', which is no class{did_you_mean(name, self.names)}"
                    )
        for name in (*self.exempt, *((self.no_finding,) if self.no_finding is not None else ())):
            if name not in self.names:
                raise ValueError(f"'{name}' is no class{did_you_mean(name, self.names)}")
        for item in self.classes:
            if item.name in self.implied(item.name):
                raise ValueError(f"'{item.name}' implies itself")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all classes."""
        return tuple(item.name for item in self.classes)

    def canonical(self, name: str, where: str) -> str:
        """Return the one name of the class that is also called `name`.

        Raises:
            LabelAssembleError: No class is; the sentence starts with `where` and ends with the nearest name.
        """
        found = self._names.get(spelling_key(name))
        if found is None:
            spellings = [spelling for item in self.classes for spelling in (item.name, *item.synonyms)]
            raise LabelAssembleError(
                f"{where}: the taxonomy has no class '{name}'{did_you_mean(name, spellings)}"
            )
        return found

    def implied(self, name: str) -> tuple[str, ...]:
        """Return all classes that a positive label of class `name` makes positive, near ones first."""
        parents = {item.name: item.implies for item in self.classes}
        found: list[str] = []
        queue = list(parents[name])
        while queue:
            parent = queue.pop(0)
            if parent not in found:
                found.append(parent)
                queue.extend(parents[parent])
        return tuple(found)

    @classmethod
    def load(cls, source: str | Path) -> "Taxonomy":
        """Return the taxonomy of a YAML file, or the shipped one of that name ("thorax").

        Raises:
            LabelAssembleError: The file cannot be read or breaks the rules above.
        """
        if str(source) in SHIPPED:
            text = (
                files("labelassemble.data").joinpath(f"taxonomies/{source}.yaml").read_text(encoding="utf-8")
            )
        else:
            try:
                text = Path(source).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                near = did_you_mean(str(source), SHIPPED) if "/" not in str(source) else ""
                raise LabelAssembleError(f"taxonomy {source}: cannot be read ({error}){near}") from None
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise LabelAssembleError(
                f"taxonomy {source}: not valid YAML ({' '.join(str(error).split())})"
            ) from None
        if not isinstance(content, dict):
            raise LabelAssembleError(f"taxonomy {source}: must be a mapping with the key 'classes'")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            raise LabelAssembleError(f"taxonomy {source}: {place + ': ' if place else ''}{reason}") from None


def spelling_key(name: str) -> str:
    """Return what is left of a name when case, spaces, "_", "-" and "." make no difference."""
    return "".join(letter for letter in name.casefold() if letter.isalnum() or letter == "+")
