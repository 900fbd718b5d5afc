"""Subgroups in the assembly: read with the sources, joined where an image is in several, counted for the report."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data.readers import Source
from labelassemble.data.readers.options import TabularOptions
from labelassemble.data.subgroups import no_column
from labelassemble.data.table import Table
from labelassemble.data.text import TextArray, constant_text, text_codes
from labelassemble.errors import LabelAssembleError, did_you_mean

_VALUES_SHOWN = 6


def read_with_subgroups(source: Source, wanted: Sequence[str]) -> Table:
    """Return the table of a source with the `wanted` subgroups, blank where it has none.

    Raises:
        LabelAssembleError: What `read` raises, or `subgroup_columns` names a subgroup that is not wanted.
    """
    if not isinstance(source, TabularOptions):
        table = source.read()
        blank = constant_text("", len(table))
        notes = tuple(no_column(name) for name in wanted)
        return replace(table, subgroups=dict.fromkeys(wanted, blank), notes=(*table.notes, *notes))
    for name in source.subgroup_columns:
        if name not in wanted:
            raise LabelAssembleError(
                f"source '{source.name}', subgroup_columns: '{name}' is not among the `subgroups` of the configuration"
                f"{did_you_mean(name, wanted)}"
            )
    return source.read(wanted)


def merged_subgroups(
    table: Table, image: NDArray[np.int64], kept: NDArray[np.int64]
) -> tuple[dict[str, TextArray], tuple[str, ...]]:
    """Return the subgroups of the rows that are kept, and a sentence for each that duplicates contradict each other on.

    Of several rows of one image the first that says something counts.

    Args:
        table: All rows.
        image: Which image each row shows, [N].
        kept: The first row of each image, rising.
    """
    if len(kept) == len(table):
        return dict(table.subgroups), ()
    code, _ = pd.factorize(image)
    merged, told = {}, []
    for name, values in table.subgroups.items():
        filled = np.flatnonzero(values != "")
        first = np.full(int(code.max()) + 1, -1, dtype=np.int64)
        first[code[filled[::-1]]] = filled[::-1]  # of several writes to one place the last one stays
        said = first[code[kept]]
        merged[name] = values[np.where(said >= 0, said, kept)]
        against = filled[values[filled] != values[first[code[filled]]]]
        if len(against):
            row, other = against[0], first[code[against[0]]]
            told.append(
                f"subgroup '{name}': {len(np.unique(code[against]))} {table.noun}s that stand in several rows have "
                f"several values, the first of which counts, such as {table.names[other]} "
                f"({values[other]}, {values[row]})"
            )
    return merged, tuple(told)


def subgroup_counts(table: Table) -> pd.DataFrame:
    """Return what each source's subgroups are: source, subgroup, images, missing, values (in words)."""
    sources, code = text_codes(table.sources)
    rows = []
    for index, source in enumerate(sources):
        for name, values in table.subgroups.items():
            own = values[code == index]
            there = own[own != ""]
            rows.append((str(source), name, len(own), len(own) - len(there), _described(name, there)))
    return pd.DataFrame(rows, columns=["source", "subgroup", "images", "missing", "values"])


def _described(name: str, values: TextArray) -> str:
    """Return the range and the median of ages, the commonest values of another subgroup with their counts."""
    distinct, code = text_codes(values)
    if name.casefold() == "age" and len(values):
        ages = np.array(distinct.tolist(), dtype=np.float64)[code]
        return f"{ages.min():g} to {ages.max():g} years, median {np.median(ages):g}"
    counts = np.bincount(code, minlength=len(distinct))
    order = np.argsort(-counts, kind="stable")
    said = [f"{distinct[index]} {counts[index]}" for index in order[:_VALUES_SHOWN]]
    more = len(order) - _VALUES_SHOWN
    return ", ".join(said) + (f" and {more} more values" if more > 0 else "")
