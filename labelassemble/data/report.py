"""What assembling did, as data and as text."""

import os
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype

from labelassemble.data.table import SPLITS, Table
from labelassemble.data.text import text_codes

_ROWS_SHOWN = 10
_WIDTH = 40  # of a name in the text


@dataclass(frozen=True)
class AssemblyReport:
    """What was assembled and what had to be decided on the way.

    Attributes:
        coverage: Who labels what, as `Table.coverage`.
        assumed: Labels that nobody gave, by source, rule and class, as `Table.assumed_counts`.
        splits: Images a source and split: source, images, groups, train, val, test.
        duplicates: Rows merged into an earlier one of the same image: kept, kept_source, merged, merged_source.
        alike: Pairs of images that look alike, kept apart but in one group: name, source, other_name, other_source.
        conflicts: Labels on which duplicates contradict each other, and positive labels of one image that exclude each
            other: class, positive, positive_source, negative, negative_source (the two images by name), result.
        moved: Rows by name whose published split was overruled because their group has a stricter one: name, source,
            published, split.
        subgroups: What the images' subgroups are: source, subgroup, images, missing, values.
        masks: What the masks show, as `mask_counts`.
        notes: Further sentences that a user should read.
        split_notes: Those that matter to training alone: a split that is empty, a class without positives in train.
        files: The tables and lists that were read: source and path of each.
        noun: What a row is in the text, see `Table.noun`; the frames' columns have their names whatever it is.
    """

    coverage: pd.DataFrame
    assumed: pd.DataFrame
    splits: pd.DataFrame
    duplicates: pd.DataFrame
    alike: pd.DataFrame
    conflicts: pd.DataFrame
    moved: pd.DataFrame
    subgroups: pd.DataFrame = field(default_factory=pd.DataFrame)
    masks: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: tuple[str, ...] = ()
    split_notes: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    noun: str = "image"

    def to_text(self) -> str:
        """Return the report as plain text: who labels what is a line a class and a column a source."""
        called = {"images": f"{self.noun}s"}
        parts = [_text(self.splits.rename(columns=called))]
        if self.files:
            parts.append(_files(self.files))
        parts.append(_matrix(self.coverage))
        if len(self.assumed):
            parts.append(_assumed(self.assumed))
        if len(self.masks):
            parts.append(f"masks of each source, in cases and voxels\n{_text(self.masks)}")
        if len(self.subgroups):
            parts.append(
                f"subgroups of each source\n{self.subgroups.rename(columns=called).to_string(index=False)}"
            )
        for title, frame in (
            ("duplicates merged", self.duplicates),
            ("pairs that look alike", self.alike),
            ("conflicting labels", self.conflicts),
            ("rows moved so that no patient is on two sides of a split", self.moved),
        ):
            if len(frame):
                shown = _text(frame.head(_ROWS_SHOWN))
                more = len(frame) - _ROWS_SHOWN
                parts.append(
                    f"{title}: {len(frame)}\n{shown}" + (f"\n... and {more} more" if more > 0 else "")
                )
        parts.extend((*self.notes, *self.split_notes))
        return "\n\n".join(parts) + "\n"


def _matrix(coverage: pd.DataFrame) -> str:
    """Return coverage with sources side by side, under a line that explains its cells; a blank one is not labelled."""
    marks = {
        "positive": "+",
        "negative": "-",
        "uncertain": "?",
        "assumed": " assumed",
        "derived": " derived",
    }
    used = [state for state in marks if state in ("positive", "negative") or coverage[state].any()]
    cells = pd.Series("", index=coverage.index)
    for state in used:
        counts = coverage[state]
        # A source that labels a class shows both counts, were one of them 0; the rarer states only where they occur.
        shown = (counts > 0) | (
            (coverage["positive"] + coverage["negative"] > 0) & (state in ("positive", "negative"))
        )
        cells = cells.where(~shown, cells + " " + counts.astype(str) + marks[state])
    frame = coverage.assign(cell=cells.str.strip(), source=coverage["source"].map(_short))
    table = frame.pivot_table(
        index="class", columns="source", values="cell", aggfunc="first", sort=False, fill_value=""
    )
    legend = ", ".join(f"{marks[state].strip()} {state}" for state in used if marks[state][0] != " ")
    body = (
        table.rename(index=_short)
        .rename_axis(index="class", columns=None)
        .reset_index()
        .to_string(index=False)
    )
    return f"labels of each source ({legend}; blank: not annotated)\n{body}"


def _files(files: tuple[tuple[str, str], ...]) -> str:
    """Return the tables that were read, a line each; paths are whole, or start at the current folder."""
    lines, here = ["read"], f"{os.getcwd()}/"
    for source in dict.fromkeys(name for name, _ in files):
        paths = [path.removeprefix(here) for name, path in files if name == source]
        lines += [f"  {_short(source)}: {path}" for path in paths[:_ROWS_SHOWN]]
        if len(paths) > _ROWS_SHOWN:
            lines.append(f"  {_short(source)}: ... and {len(paths) - _ROWS_SHOWN} more")
    return "\n".join(lines)


_REASONS = {
    "assume": "the source's option `assume`",
    "implies": "`implies` of the taxonomy",
    "no_finding": "a healthy image has none of the findings that its source labels",
    "exclusive": "classes that exclude each other",
}


def _assumed(counts: pd.DataFrame) -> str:
    """Return what was assumed, a line per source and rule."""
    frame = counts.groupby(["source", "rule"], sort=False, as_index=False).agg(
        classes=("class", "size"), positive=("positive", "sum"), negative=("negative", "sum")
    )
    frame["why"] = frame["rule"].map(_REASONS)
    frame["source"] = frame["source"].map(_short)
    return (
        "labels that nobody gave: trained on, never evaluated on\n"
        f"{frame.drop(columns='rule').to_string(index=False)}"
    )


def _text(frame: pd.DataFrame) -> str:
    """Return a frame as text, long names cut in the middle."""
    short = {name: frame[name].map(_short) for name in frame.columns if not is_numeric_dtype(frame[name])}
    return frame.assign(**short).to_string(index=False)


def _short(name: str) -> str:
    half = _WIDTH // 2 - 1
    return name if len(name) <= _WIDTH else f"{name[:half]}...{name[-half:]}"


def row_frame(table: Table, **columns: NDArray[np.int64]) -> pd.DataFrame:
    """Return a frame with the name and the source of the rows of `table` that each of `columns` lists."""
    frame = {}
    for column, rows in columns.items():
        frame[column] = table.names[rows].astype(object)
        frame[f"{column}_source"] = table.sources[rows].astype(object)
    return pd.DataFrame(frame)


def split_counts(table: Table) -> pd.DataFrame:
    """Return how many images and groups each source has, and how its images are split."""
    sources, code = text_codes(table.sources)
    _, group = text_codes(table.groups)
    groups = int(group.max(initial=0)) + 1
    pairs = pd.unique(code * groups + group) // groups
    frame = pd.DataFrame({"source": sources.astype(object)})
    frame["images"] = np.bincount(code, minlength=len(sources))
    frame["groups"] = np.bincount(pairs, minlength=len(sources))
    for name in SPLITS:
        frame[name] = np.bincount(code[table.splits == name], minlength=len(sources))
    return frame
