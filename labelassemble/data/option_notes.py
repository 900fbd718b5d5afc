"""Options and rules that changed nothing: what they are and the likely reason."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.alignment import NamedSource
from labelassemble.data.readers import DicomSource, Source
from labelassemble.data.readers.options import SourceOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN, LabelOrigin, UncertainPolicy
from labelassemble.data.table import Table
from labelassemble.data.taxonomy import Taxonomy
from labelassemble.data.text import text_codes

_OWN_CODING: Final = "-1 means unknown in {}, -2 is uncertain"
_CODINGS: Final = {
    "csv": _OWN_CODING.format("a table of one's own")
    + "; of a table in CheXpert's coding say `minus_one: uncertain`",
    "webdataset": _OWN_CODING.format("a shard's JSON"),
}


class Asked(NamedTuple):
    """What a source was told that shows only when the table is whole.

    Attributes:
        options: The source's options.
        called: What it is called in the table.
        uncertain: Policy by class, "default" for the others.
        labelled: How many training images keep their label, by class.
        blank: Classes that its own option `classes` names and of which none of its images has a label.
    """

    options: SourceOptions
    called: tuple[str, ...]
    uncertain: dict[str, UncertainPolicy]
    labelled: dict[str, int]
    blank: tuple[str, ...]

    @classmethod
    def of(cls, source: NamedSource) -> "Asked":
        """Return what `source` was told."""
        called = tuple(str(name) for name in text_codes(source.table.sources)[0])
        blank: tuple[str, ...] = ()
        if getattr(source.options, "classes", None) is not None:
            labelled = (source.table.labels != UNKNOWN).any(axis=0)
            blank = tuple(name for name, some in zip(source.table.classes, labelled, strict=True) if not some)
        return cls(source.options, called, source.uncertain, source.labelled, blank)


def why_unlabelled(sources: Sequence[Source]) -> str:
    """Return the likely reason why no source labels any of the classes, for the end of a sentence."""
    for source in sources:
        if isinstance(source, DicomSource) and source.labels is None:
            return (
                f"source '{source.name}' has no table of labels, which its key `labels` names (a CSV with a column "
                "patient, study, accession or file, and a column per class)"
            )
    return "each of their cells is blank, hidden or only assumed"


def early_notes(
    source: NamedSource,
    images: int,
    classes: Sequence[str],
    origins: NDArray[np.uint8],
    hidden: NDArray[np.int8] | None,
) -> tuple[str, ...]:
    """Return a sentence for each of `limit`, `hide` and `assume` of a source that changed nothing.

    Args:
        source: The source, its table as read.
        images: How many of its images are left by `limit`.
        classes: Names of the C classes of the assembly.
        origins: Origins of its labels, uint8 [N, C].
        hidden: Its labels that `hide` took away, int8 [N, C].
    """
    found: list[tuple[str, str]] = []
    limit = source.options.limit
    if limit is not None and images == len(source.table) < limit:
        found.append((f"limit: {limit}", f"leaves nothing out: it has {images} {source.table.noun}s"))
    for name in source.hide:
        if name not in classes:
            found.append(("hide", _no_class(name)))
        elif hidden is None or not (hidden[:, classes.index(name)] != UNKNOWN).any():
            found.append(("hide", f"takes no label of '{name}' away: it has none"))
    for name in source.assume:
        if name not in classes:
            found.append(("assume", _no_class(name)))
        elif not (origins[:, classes.index(name)] == LabelOrigin.ASSUME).any():
            found.append(
                ("assume", f"fills in no label of '{name}': each of its {source.table.noun}s has one")
            )
    return tuple(_said(source.options, option, what) for option, what in found)


def late_notes(table: Table, asked: Sequence[Asked], taxonomy: Taxonomy | None) -> tuple[str, ...]:
    """Return a sentence for each `uncertain`, `labelled` and `classes` of a source and each rule that changed nothing.

    Args:
        table: The assembled table.
        asked: What its sources were told.
        taxonomy: Its implications.
    """
    notes: list[str] = []
    for source in asked:
        if source.uncertain or source.labelled:
            mine = table.sources.isin(list(source.called))
            notes.extend(_uncertain_notes(table, mine, source))
            notes.extend(_labelled_notes(table, mine & (table.splits == "train"), source))
        for name in source.blank:  # where others label it; else the whole table has a warning
            if name in table.classes and table.known[:, table.column(name)].any():
                what = f"names '{name}', but it has no label of that class"
                notes.append(_said(source.options, "classes", what))
    for item in () if taxonomy is None else taxonomy.classes:
        for name in item.implies:
            if item.name in table.classes and name in table.classes:
                present = (table.labels[:, table.column(item.name)] == POSITIVE).any()
                if not present and not (table.labels[:, table.column(name)] == NEGATIVE).any():
                    notes.append(
                        f"warning: the taxonomy's rule that '{item.name}' implies '{name}' touches no {table.noun}: "
                        f"none is positive for '{item.name}' or negative for '{name}'"
                    )
    return tuple(notes)


def _uncertain_notes(table: Table, mine: NDArray[np.bool_], source: Asked) -> list[str]:
    uncertain = (table.labels[mine] == UNCERTAIN).any(axis=0)
    reader = str(getattr(source.options, "reader", ""))
    coding = _CODINGS.get("csv" if reader in ("parquet", "dicom") else reader)
    why = f" ({coding})" if coding else ""
    others = [name not in source.uncertain for name in table.classes]
    notes = []
    for name, policy in source.uncertain.items():
        if policy == "ignore":  # what happens to them anyway
            continue
        if name != "default" and name not in table.classes:
            notes.append(_said(source.options, "uncertain", _no_class(name)))
        elif not (uncertain[others].any() if name == "default" else uncertain[table.column(name)]):
            of = "any other class" if name == "default" and len(source.uncertain) > 1 else f"'{name}'"
            of = "any class" if of == "'default'" else of
            what = f"changes no label of {of}: none of its labels is uncertain{why}"
            notes.append(_said(source.options, "uncertain", what))
    return notes


def _labelled_notes(table: Table, mine: NDArray[np.bool_], source: Asked) -> list[str]:
    notes = []
    for name, count in source.labelled.items():
        if name not in table.classes:
            notes.append(_said(source.options, "labelled", _no_class(name)))
            continue
        column = table.column(name)
        left = int(((table.labels[mine, column] != UNKNOWN) & ~table.assumed[mine, column]).sum())
        if left < count:
            what = f"takes no label of '{name}' away: {left} of its training {table.noun}s have one, fewer than {count}"
            notes.append(_said(source.options, "labelled", what))
    return notes


def _no_class(name: str) -> str:
    return f"changes nothing about '{name}', which is not among the `classes`"


def _said(options: SourceOptions, option: str, what: str) -> str:
    return f"warning: source '{options.name}': its option `{option}` {what}"
