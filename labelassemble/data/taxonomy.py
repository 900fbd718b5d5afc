"""The taxonomy: one name a class, its synonyms, and what a label of one class says about another."""

from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from labelassemble._class_name import check_class_name
from labelassemble.data.class_groups import class_groups
from labelassemble.errors import LabelAssembleError, did_you_mean

SHIPPED: Final = ("thorax", "skin")
"""Taxonomies inside the package, to be named instead of a file."""


def _names_or_all(value: object) -> object:
    if value == "all" or (isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)):
        if value != "all" and len(set(value)) < len(value):
            raise ValueError(f"must name each class once, got {list(value)}")
        return value
    raise ValueError(f"must be all, or names of classes such as [nevus, keratosis], got {value!r}")


class TaxonomyClass(BaseModel):
    """One class: its name, what else it is called, and what a positive label of it says about other classes.

    Attributes:
        name: The name.
        synonyms: Other names.
        implies: Classes that are positive where this one is.
        excludes: Classes that are negative where this one is positive, and the other way round; "all" for every other
            class that is not `exempt`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(check_class_name)]
    synonyms: tuple[Annotated[str, AfterValidator(check_class_name)], ...] = ()
    implies: tuple[str, ...] = ()
    excludes: Annotated[Literal["all"] | tuple[str, ...], BeforeValidator(_names_or_all)] = ()


class Taxonomy(BaseModel):
    """Names, synonyms, implications and exclusions of classes; aligning two sources goes by these names.

    Case, spaces, "_", "-" and "." make no difference between two spellings of a name.

    Attributes:
        classes: The classes.
        no_finding: The class that says "none of the findings": where it is positive, each class that the source labels,
            `exempt` aside, is negative.
        exempt: Classes that are no findings, such as "Support Devices".
        exclusive: Groups of classes of which an image has one at most, in all sources: a positive label of one makes
            the others of its group negative, also where the image's source never labels them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: tuple[TaxonomyClass, ...]
    no_finding: str | None = None
    exempt: tuple[str, ...] = ()
    exclusive: Annotated[tuple[tuple[str, ...], ...], BeforeValidator(class_groups)] = ()
    _names: dict[str, str] = PrivateAttr(default_factory=dict)
    _pairs: frozenset[tuple[str, str]] = PrivateAttr(default=frozenset())

    @model_validator(mode="after")
    def _index(self) -> Self:
        for index, item in enumerate(self.classes):
            if item.name in self.names[:index]:
                raise ValueError(f"'{item.name}' stands twice")
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
        self._pairs = frozenset(self._excluding_pairs())
        return self

    def _excluding_pairs(self) -> set[tuple[str, str]]:
        """Return the pairs of names that exclude each other, both ways round.

        Raises:
            ValueError: A rule names no class, a group has fewer than two, or two can be present together.
        """

        def named(name: str, where: str) -> str:
            found = self.find(name)
            if found is None:
                raise ValueError(f"{where} names '{name}', which is no class{did_you_mean(name, self.names)}")
            return found

        pairs = set()
        for number, group in enumerate(self.exclusive, 1):
            members = [named(name, f"exclusive, group {number},") for name in group]
            if len(set(members)) < 2 or len(set(members)) < len(members):
                raise ValueError(
                    f"exclusive, group {number}, must name two or more different classes, got {', '.join(group)}"
                )
            pairs |= {(a, b) for a in members for b in members if a != b}
        for item in self.classes:
            if item.excludes == "all":
                others = [name for name in self.names if name != item.name and name not in self.exempt]
                others = [name for name in others if self.together(item.name, name) is None]
            else:
                others = [named(name, f"excludes of '{item.name}'") for name in item.excludes]
            pairs |= {(item.name, other) for other in others} | {(other, item.name) for other in others}
        for name, other in sorted(pairs):
            if name == other:
                raise ValueError(f"'{name}' excludes itself")
            both = self.together(name, other)
            if both is not None:
                raise ValueError(
                    f"'{name}' and '{other}' cannot exclude each other, since '{both}' "
                    + ("implies the other" if both in (name, other) else "implies both")
                )
        return pairs

    def together(self, name: str, other: str) -> str | None:
        """Return a class that is both or implies both, so that where it is positive both are present; else None."""
        for item in self.classes:
            above = (item.name, *self.implied(item.name))
            if name in above and other in above:
                return item.name
        return None

    def excluding(self, classes: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of `classes` exclude each other in every source, bool [C, C], symmetric."""
        return self.spread(classes, self._pairs)

    def spread(self, classes: Sequence[str], pairs: Collection[tuple[str, str]]) -> NDArray[np.bool_]:
        """Return which of `classes` exclude each other when `pairs` do: what implies a class excludes what it excludes.

        Args:
            classes: Names of C classes.
            pairs: Names that exclude each other, both ways round.
        """
        matrix = np.zeros((len(classes), len(classes)), dtype=np.bool_)
        if not pairs:
            return matrix
        above = [(name, *self.implied(name)) for name in classes]
        for i, names in enumerate(above):
            for j, others in enumerate(above):
                matrix[i, j] = any((a, b) in pairs for a in names for b in others)
        return matrix

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all classes."""
        return tuple(item.name for item in self.classes)

    def find(self, name: str) -> str | None:
        """Return the one name of the class that is also called `name`, None where no class is."""
        return self._names.get(spelling_key(name))

    def canonical(self, name: str, where: str) -> str:
        """Return the one name of the class that is also called `name`.

        Raises:
            LabelAssembleError: No class is; the sentence starts with `where` and ends with the nearest name.
        """
        found = self.find(name)
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

    def exempts(self, name: str) -> bool:
        """Return whether class `name` is no finding: `exempt`, or implying a class that is, as a pacemaker does."""
        return any(above in self.exempt for above in (name, *self.implied(name)))

    @classmethod
    def load(cls, source: str | Path) -> "Taxonomy":
        """Return the taxonomy of a YAML file, or the shipped one of that name ("thorax", "skin").

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
    """Return what is left of a name when case, spaces, "_", "-" and "." make no difference.

    Signs that compare stay: "grade >= 3" is not "grade 3".
    """
    return "".join(letter for letter in name.casefold() if letter.isalnum() or letter in "+<=>")
