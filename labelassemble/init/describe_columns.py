"""What a proposal says of a table's columns."""

from collections.abc import Mapping
from typing import Final

from labelassemble.init.columns import Uses
from labelassemble.init.profile import Column
from labelassemble.init.proposal import Proposal

_FEW: Final = 5


def describe_columns(
    found: Proposal, columns: Mapping[str, Column], uses: Uses, rows: int, *, converted: bool
) -> None:
    """Say of the optional columns what is taken, of cells what they mean, and which columns are not used.

    Args:
        found: the proposal, which is added to.
        columns: of the table.
        uses: what they are for.
        rows: of the table.
        converted: a table with a column per class was made of it.
    """
    used = {uses.path, uses.patient, uses.split, *uses.classes, *uses.subgroups.values(), *uses.refused}
    if unused := [name for name in columns if name not in used]:
        more = f" and {len(unused) - _FEW} more" if len(unused) > _FEW else ""
        found.remarks.append(f"columns that are not used: {', '.join(unused[:_FEW])}{more}")
    found.why["reader"] = f"{rows} rows" + (f", {found.why['reader']}" if "reader" in found.why else "")
    if uses.split is not None:
        counts = ", ".join(f"{cell or 'blank'} {count}" for cell, count in columns[uses.split].values.items())
        found.why["split_column"] = counts
    if not converted:
        source = columns.get("source")
        if source is not None and not (source.whole and all(source.values)):
            found.add("source_column", "", "the column 'source' would divide the table into as many sources")
        elif source is not None and len(source.values) > 1:
            found.add(
                "source_column", "source", f'tells {len(source.values)} sources apart; "" takes all as one'
            )
        cells = {cell for name in uses.classes for cell in columns[name].values}
        if cells & {"-1", "-1.0"}:
            found.add(
                "minus_one",
                "uncertain" if "" in cells else "unknown",
                "what -1 means: unknown, or uncertain (CheXpert's coding)",
            )
        if "" in cells:
            found.add("blank", "unknown", "a blank cell: nobody looked; or negative")
    if uses.subgroups:
        found.hints.append(f"subgroups: [{', '.join(uses.subgroups)}]    breaks the evaluation down")
        other = [f"{name}: {column}" for name, column in uses.subgroups.items() if name != column]
        if other and not converted:
            found.hints.append(f"the source needs subgroup_columns: {{{', '.join(other)}}} for it")
    if uses.split is None:
        found.hints.append(
            "split: {val: 0.1, test: 0.2}    divides the images, by patient where patients are known"
        )
