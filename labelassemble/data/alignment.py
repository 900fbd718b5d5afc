"""One source made ready for the assembly: class names, implications, hidden and assumed labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.class_names import check_class_names
from labelassemble.data.exclusion import ExclusiveClasses
from labelassemble.data.readers.options import SourceOptions
from labelassemble.data.states import (
    NEGATIVE,
    POSITIVE,
    UNKNOWN,
    UncertainPolicy,
)
from labelassemble.data.table import WARNING, Table
from labelassemble.data.taxonomy import Taxonomy
from labelassemble.data.text import text_hash
from labelassemble.errors import LabelAssembleError, did_you_mean


@dataclass(frozen=True)
class NamedSource:
    """A source read, its classes under the names that the assembly uses.

    Attributes:
        options: What the source was told, its class names as the user wrote them.
        table: What its reader returned, its groups made by `grouped`.
        assume: State by class to fill UNKNOWN with.
        exclusive: Classes that exclude each other in its images; None without the option.
        uncertain: Policy by class, "default" for the others.
        hide: Classes whose labels are set aside.
        labelled: How many training images keep their label, by class.
    """

    options: SourceOptions
    table: Table
    assume: dict[str, int]
    exclusive: ExclusiveClasses | None
    uncertain: dict[str, UncertainPolicy]
    hide: tuple[str, ...]
    labelled: dict[str, int]


def name_source(options: SourceOptions, table: Table, taxonomy: Taxonomy | None) -> NamedSource:
    """Return the source with every class name made the taxonomy's own (unchanged without one).

    Raises:
        LabelAssembleError: The source has no row, a name is not in the taxonomy, or two names become the same.
    """
    source = options.name
    if not len(table):
        raise LabelAssembleError(f"source '{source}': has no {table.noun}s")

    def canonical(name: str, key: str) -> str:
        return name if taxonomy is None else taxonomy.canonical(name, f"source '{source}'{key}")

    classes = tuple(canonical(name, "") for name in table.classes)
    for index, name in enumerate(classes):
        if name in classes[:index]:
            first = table.classes[classes.index(name)]
            raise LabelAssembleError(
                f"source '{source}': its classes '{first}' and '{table.classes[index]}' are the same, '{name}'"
            )
    check_class_names(classes)
    assume = {
        canonical(name, ", assume"): int(POSITIVE if label == "positive" else NEGATIVE)
        for name, label in options.assume.items()
    }
    exclusive = options.exclusive
    if exclusive == "voxel" and not table.mask_values:
        raise LabelAssembleError(
            f"source '{source}', exclusive: 'voxel' is about what masks draw, and the source has none"
        )
    if exclusive is not None and not isinstance(exclusive, str):
        exclusive = tuple(tuple(canonical(name, ", exclusive") for name in group) for group in exclusive)
        for group, written in zip(exclusive, options.exclusive or (), strict=True):
            if len(set(group)) < len(group):
                raise LabelAssembleError(
                    f"source '{source}', exclusive: a group must name two or more different classes, got "
                    f"{', '.join(written)}"
                )
    uncertain = {
        name if name == "default" else canonical(name, ", uncertain"): policy
        for name, policy in options.uncertain.items()
    }
    hide = tuple(canonical(name, ", hide") for name in options.hide)
    labelled = {canonical(name, ", labelled"): count for name, count in options.labelled.items()}
    for key, names in (("hide", hide), ("labelled", tuple(labelled))):
        for name in names:
            if name not in classes:
                near = did_you_mean(name, classes)
                raise LabelAssembleError(f"source '{source}', {key}: it does not label '{name}'{near}")
            if name in assume:
                raise LabelAssembleError(f"source '{source}': '{name}' cannot be in both {key} and assume")
    named = replace(table, classes=classes, mask_values=_renamed(table, classes))
    return NamedSource(options, named, assume, exclusive, uncertain, hide, labelled)


def _renamed(table: Table, classes: Sequence[str]) -> dict[str, dict[int, str]]:
    """Return what the values of masks stand for, with the `classes` of a table under their new names."""
    new = dict(zip(table.classes, classes, strict=True))
    return {
        source: {value: new.get(name, name) for value, name in values.items()}
        for source, values in table.mask_values.items()
    }


def told_by(sources: Sequence[NamedSource]) -> list[str]:
    """Return what the sources' tables have to tell, each sentence with its source, a warning first said to be one."""
    told = []
    for source in sources:
        for note in source.table.notes:
            kind = WARNING if note.startswith(WARNING) else ""
            told.append(f"{kind}source '{source.options.name}': {note.removeprefix(kind)}")
    return told


def unlabel(
    table: Table, sources: Sequence[str], labelled: dict[str, int], seed: int
) -> tuple[Table, NDArray[np.int8]]:
    """Return the table with labels taken out, until so many training images keep one, and the labels taken.

    Args:
        table: The table, its splits decided.
        sources: What the source is called in the table.
        labelled: How many of its training images keep their label, by class.
        seed: Seed of the choice.

    Returns:
        The table; the labels taken, int8 [N, C] with UNKNOWN elsewhere.
    """
    labels, given = table.labels.copy(), ~table.assumed
    taken = np.full(labels.shape, UNKNOWN, dtype=np.int8)
    training = table.sources.isin(list(sources)) & (table.splits == "train")
    for name, count in labelled.items():
        if name in table.classes:
            column = table.classes.index(name)
            rows = np.flatnonzero(training & (labels[:, column] != UNKNOWN) & given[:, column])
            rows = rows[np.argsort(text_hash(table.names[rows], seed), kind="stable")][count:]
            taken[rows, column] = labels[rows, column]
            labels[rows, column] = UNKNOWN
    return replace(table, labels=labels), taken


def check_names(source: NamedSource, classes: Sequence[str]) -> None:
    """Raise LabelAssembleError if `assume`, `exclusive` or `uncertain` names a class that no source has."""
    groups = () if source.exclusive is None or isinstance(source.exclusive, str) else source.exclusive
    exclusive = [name for group in groups for name in group]
    for key, names in (("assume", source.assume), ("exclusive", exclusive), ("uncertain", source.uncertain)):
        for name in names:
            if name != "default" and name not in classes:
                raise LabelAssembleError(
                    f"source '{source.options.name}', {key}: no source has a class '{name}'"
                    f"{did_you_mean(name, classes)}"
                )


def limited(table: Table, limit: int | None, seed: int) -> Table:
    """Return at most `limit` rows of `table`, in its order: those with the least hash of (seed, name)."""
    if limit is None or limit >= len(table):
        return table
    order = np.argsort(text_hash(table.names, seed), kind="stable")
    return table.select(np.sort(order[:limit]))
