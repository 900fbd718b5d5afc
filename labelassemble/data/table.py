"""The table: what a reader returns, what assembling returns, what training and evaluation take."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from labelassemble.data.absence import Absence
from labelassemble.data.class_names import check_class_names
from labelassemble.data.policies import policy_targets
from labelassemble.data.states import (
    NEGATIVE,
    POSITIVE,
    UNCERTAIN,
    UNKNOWN,
    LabelOrigin,
    UncertainPolicy,
)
from labelassemble.data.subgroups import checked_subgroups
from labelassemble.data.text import TextArray, checked_text, constant_text, read_only, text_codes
from labelassemble.errors import LabelAssembleError, did_you_mean

SPLITS: Final = ("train", "val", "test")
"""The splits of an assembled table."""
OPEN_SPLITS: Final = ("", "trainval")
"""What a reader may leave to `assemble`: nothing published, or a published train + val part still to be divided."""
LABEL_COUNTS: Final = ("positive", "negative", "uncertain", "unknown", "assumed", "derived")
"""The states of a label as `Table.coverage` counts them."""
WARNING: Final = "warning: "
"""What a note begins with that tells of something that is probably wrong."""
WITH_ARTICLE: Final = {"image": "an image", "case": "a case"}
"""What a row of a table is called, by `Table.noun`."""


@dataclass(frozen=True, eq=False)
class Table:
    """Images, their labels and where they come from; a row an image, a column of labels a class.

    Labels and texts are seen through read-only views; what is given in the right dtype is never copied. Texts may be
    any sequence of str.

    Attributes:
        classes: Names of the C classes, in the order of the columns of `labels`.
        paths: Where each image lies: a file, or `container::member` (see `decode_image`), text [N].
        names: What the publisher calls each image; unique within a source where the publisher's is, text [N].
        groups: The patient, or whatever must stay on one side of a split; "" = not known yet, text [N].
        splits: "train", "val" or "test"; before assembling also "" and "trainval" (`OPEN_SPLITS`), text [N].
        sources: The dataset that each row comes from, text [N].
        labels: `LabelState` codes, int8 [N, C].
        origins: `LabelOrigin` codes: who says what the label says, uint8 [N, C].
        subgroups: Whom the images show and how they were taken, by name: sex, age in years, view, ...; text [N] each,
            "" = missing.
        masks: Where the mask of each image lies, text [N]; "" = nothing is drawn. See `drawn`.
        mask_values: Which class each value of a source's masks stands for, by source.
        notes: What a reader has to tell whoever assembles its table, a sentence each.
        files: The tables and lists that a reader took the labels from, full paths.
        absence: Which negative labels nobody wrote, of a reader's table; `assemble` settles it.

    Raises:
        LabelAssembleError: A shape, dtype, code, split or class name breaks these rules.
    """

    classes: tuple[str, ...]
    paths: TextArray
    names: TextArray
    groups: TextArray
    splits: TextArray
    sources: TextArray
    labels: NDArray[np.int8]
    origins: NDArray[np.uint8] = field(repr=False)
    subgroups: Mapping[str, TextArray] = field(default_factory=dict, kw_only=True)
    masks: TextArray = field(default_factory=lambda: constant_text("", 0), repr=False, kw_only=True)
    mask_values: Mapping[str, Mapping[int, str]] = field(default_factory=dict, repr=False, kw_only=True)
    notes: tuple[str, ...] = field(default=(), repr=False, kw_only=True)
    files: tuple[str, ...] = field(default=(), repr=False, kw_only=True)
    absence: Absence | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        check_class_names(self.classes)
        rows = len(self.paths)
        if not len(self.masks):
            object.__setattr__(self, "masks", constant_text("", rows))
        for name in TEXT_FIELDS:
            object.__setattr__(self, name, read_only(checked_text(getattr(self, name), f"Table: {name}")))
            if (found := len(getattr(self, name))) != rows:
                raise LabelAssembleError(f"Table: {name} must have one entry per path ({rows}), got {found}")
        subgroups = checked_subgroups(self.subgroups, rows)
        object.__setattr__(self, "subgroups", {name: read_only(column) for name, column in subgroups.items()})
        for name, dtype in (("labels", np.int8), ("origins", np.uint8)):
            array = np.asarray(getattr(self, name))
            if array.shape != (rows, len(self.classes)) or array.dtype != dtype:
                raise LabelAssembleError(
                    f"Table: {name} must be {np.dtype(dtype)} [{rows}, {len(self.classes)}], "
                    f"got {array.dtype} {list(array.shape)}"
                )
            self._keep(name, array)
        self._check_values()

    def _keep(self, name: str, array: NDArray[np.generic]) -> None:
        view = array.view()
        view.setflags(write=False)
        object.__setattr__(self, name, view)

    def _check_values(self) -> None:
        if self.labels.size and (self.labels.min() < UNCERTAIN or self.labels.max() > POSITIVE):
            bad = self.labels[(self.labels < UNCERTAIN) | (self.labels > POSITIVE)][0]
            raise LabelAssembleError(f"Table: labels must be 1, 0, -1 or -2, got {bad}")
        if self.origins.size and (most := self.origins.max()) > max(LabelOrigin):
            raise LabelAssembleError(f"Table: origins must be 0 to {max(LabelOrigin)}, got {most}")
        elif self.origins.size and most and bool((self.assumed & (self.labels < NEGATIVE)).any()):
            raise LabelAssembleError("Table: only a known label (1 or 0) can be assumed")
        found, _ = text_codes(self.splits)
        for split in found:
            if split not in SPLITS + OPEN_SPLITS:
                raise LabelAssembleError(
                    f"Table: a split must be train, val or test, got '{split}'{did_you_mean(str(split), SPLITS)}"
                )

    def __len__(self) -> int:
        return len(self.paths)

    def __eq__(self, other: object) -> bool:
        """Return whether all classes, texts, labels and marks are the same."""
        if not isinstance(other, Table) or type(self) is not type(other):
            return NotImplemented
        same = self.classes == other.classes and self._mask_values() == other._mask_values()
        return same and all(
            [*ours] == [*theirs] and all(np.array_equal(ours[name], theirs[name]) for name in ours)
            for ours, theirs in ((self._by_row(), other._by_row()), (self.subgroups, other.subgroups))
        )

    __hash__ = None  # type: ignore[assignment]

    def _mask_values(self) -> dict[str, Mapping[int, str]]:
        """Return what the values of masks stand for, of the sources that have rows."""
        return {name: dict(named) for name, named in self.mask_values.items() if (self.sources == name).any()}

    def _by_row(self) -> dict[str, Any]:
        """Return the arrays that have an entry per row, but for the subgroups."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _NOT_BY_ROW}

    @property
    def noun(self) -> str:
        """What a row is called where users read it: "case" of a table with masks, else "image"."""
        return "case" if self.mask_values else "image"

    @property
    def known(self) -> NDArray[np.bool_]:
        """True where the label is POSITIVE or NEGATIVE, assumed ones included, bool [N, C]."""
        return self.labels >= NEGATIVE

    @property
    def assumed(self) -> NDArray[np.bool_]:
        """True where nobody gave the label that stands there: it follows from an option or a rule, bool [N, C]."""
        assumed: NDArray[np.bool_] = self.origins != LabelOrigin.GIVEN
        return assumed

    @property
    def given(self) -> NDArray[np.bool_]:
        """True where somebody said that the finding is present or absent, bool [N, C]."""
        return self.known & ~self.assumed

    def given_targets(self) -> NDArray[np.float64]:
        """Return the labels that evaluation counts, float64 [N, C]: 1, 0, NaN = unknown, uncertain or assumed."""
        return np.where(self.given, self.labels, np.nan)

    def column(self, name: str) -> int:
        """Return the column of class `name`.

        Raises:
            LabelAssembleError: The table has no such class; the sentence gives the nearest.
        """
        if name not in self.classes:
            raise LabelAssembleError(f"no class '{name}' in the table{did_you_mean(name, self.classes)}")
        return self.classes.index(name)

    def drawn(self, row: int) -> dict[int, int]:
        """Return which column each value of the mask of `row` stands for; empty without a mask.

        A class whose label nobody gives in this row is left out, though the mask has it: it was hidden on purpose.
        """
        if not self.masks[row]:
            return {}
        given = self.labels[row] >= NEGATIVE
        given &= self.origins[row] == LabelOrigin.GIVEN
        columns = {name: column for column, name in enumerate(self.classes) if given[column]}
        named = self.mask_values.get(str(self.sources[row]), {})
        return {value: columns[name] for value, name in named.items() if name in columns}

    def select(self, rows: ArrayLike) -> Self:
        """Return the table of the rows chosen by a mask, bool [N], or by indices, int [M], in that order."""
        index = np.asarray(rows)
        if index.dtype != np.bool_:
            index = index.astype(np.intp)
        subgroups = {name: values[index] for name, values in self.subgroups.items()}
        chosen = {name: values[index] for name, values in self._by_row().items()}
        absence = None if self.absence is None else self.absence.select(index)
        return replace(self, subgroups=subgroups, absence=absence, **chosen)

    def select_classes(self, classes: Sequence[str]) -> Self:
        """Return the table with only `classes`, in their order.

        Raises:
            LabelAssembleError: The table lacks one of them.
        """
        columns = [self.column(name) for name in classes]
        chosen = {name: array[:, columns] for name, array in self._by_row().items() if array.ndim == 2}
        absence = None if self.absence is None else self.absence.select_classes(columns)
        return replace(self, classes=tuple(classes), absence=absence, **chosen)

    def subset_by_split(self, split: str) -> Self:
        """Return the rows of one split.

        Raises:
            LabelAssembleError: `split` is not "train", "val" or "test".
        """
        if split not in SPLITS:
            raise LabelAssembleError(
                f"split must be train, val or test, got '{split}'{did_you_mean(split, SPLITS)}"
            )
        return self.select(self.splits == split)

    def coverage(self) -> pd.DataFrame:
        """Return who labels what: a row per source and class, in order of first appearance.

        Columns: source, class, images, positive, negative, uncertain, unknown, assumed, derived. `positive` and
        `negative` count given labels only, `assumed` those that the source's option `assume` fills in, `derived` those
        that follow from a rule, so that the last six add up to `images`.
        """
        sources, counts = self._counts()
        given, assumed = counts[..., LabelOrigin.GIVEN, :], counts.sum(axis=-1)
        rows = [
            (
                str(source),
                name,
                int(counts[s, c].sum()),
                *(int(given[s, c, state + 2]) for state in (POSITIVE, NEGATIVE, UNCERTAIN, UNKNOWN)),
                int(assumed[s, c, LabelOrigin.ASSUME]),
                int(assumed[s, c, LabelOrigin.ASSUME + 1 :].sum()),
            )
            for s, source in enumerate(sources)
            for c, name in enumerate(self.classes)
        ]
        return pd.DataFrame(rows, columns=["source", "class", "images", *LABEL_COUNTS])

    def assumed_counts(self) -> pd.DataFrame:
        """Return the labels that nobody gave: a row per rule, class and source.

        Columns: source, rule (assume, implies, no_finding or exclusive), class, positive, negative.
        """
        rows = []
        if self.origins.any():
            sources, counts = self._counts()
            for rule in list(LabelOrigin)[1:]:
                of_rule = counts[:, :, rule]
                for column, source in zip(*np.nonzero(of_rule.any(axis=2).T), strict=True):
                    positive, negative = (int(of_rule[source, column, state + 2]) for state in (1, 0))
                    name = self.classes[column]
                    rows.append((str(sources[source]), rule.name.lower(), name, positive, negative))
        return pd.DataFrame(rows, columns=["source", "rule", "class", "positive", "negative"])

    def _counts(self) -> tuple[TextArray, NDArray[np.int64]]:
        """Return the sources, and counts by source, class, origin and state + 2, int64 [S, C, 5, 4]."""
        sources, code = text_codes(self.sources)
        shape = (len(sources), len(LabelOrigin), 4)
        counts = np.empty((len(self.classes), *shape), dtype=np.int64)
        for column in range(len(self.classes)):
            cell = (code * shape[1] + self.origins[:, column]) * shape[2] + (self.labels[:, column] + 2)
            counts[column] = np.bincount(cell, minlength=math.prod(shape)).reshape(shape)
        return sources, counts.transpose(1, 0, 2, 3)

    def targets(
        self,
        uncertain: Mapping[str, UncertainPolicy] | None = None,
        *,
        per_source: Mapping[str, Mapping[str, UncertainPolicy]] | None = None,
    ) -> NDArray[np.float32]:
        """Return what the loss is given, float32 [N, C]: NaN = unknown, else a target in [0, 1].

        Args:
            uncertain: What an UNCERTAIN label becomes, by class name; the key "default" stands for all other classes.
                "ignore" (also without an entry): NaN, so that it is pseudo-labelled; "zeros" and "ones" as in CheXpert
                (Irvin et al. 2019, U-Zeros and U-Ones); "smooth": `SMOOTH_TARGET` = 0.7, the mean of the U(0.55, 0.85)
                that Pham et al. (2021) draw for U-Ones+LSR.
            per_source: Such mappings by source; a source named here takes its own instead of `uncertain`.

        Raises:
            LabelAssembleError: A class that the table lacks, or an unknown policy.
        """
        targets = self.labels.astype(np.float32)
        targets[self.labels < NEGATIVE] = np.nan
        default = policy_targets(uncertain or {}, self.classes)
        by_source = {
            name: policy_targets(policy, self.classes) for name, policy in (per_source or {}).items()
        }
        if not np.isnan(default).all() or by_source:
            rows, columns = np.nonzero(self.labels == UNCERTAIN)
            values = default[columns]
            for name, own in by_source.items():
                mine = self.sources[rows] == name
                values[mine] = own[columns[mine]]
            targets[rows, columns] = values
        return targets

    def to_csv(self, path: str | Path) -> None:
        """Write the table as CSV, whole or not at all; `from_csv` reads the same table back.

        Columns: path, name, source, group, split, assumed (of each class whose label nobody gave in that row its name,
        "=" and the rule, joined by ";": "COVID-19=assume;Nevus=exclusive"), then a column per class with the cells 1,
        0, -2 = uncertain, blank = unknown. Of a table with masks also "mask:path" and "mask:values", what the values of
        the mask stand for: "1=PDAC;2=cyst".

        Raises:
            LabelAssembleError: The file cannot be written.
        """
        from labelassemble.data.table_io import write_table_csv

        write_table_csv(self, Path(path))

    @classmethod
    def from_csv(cls, path: str | Path) -> "Table":
        """Return the table that `to_csv` wrote.

        Raises:
            LabelAssembleError: The file cannot be read or is not such a table; with file, line and column.
        """
        from labelassemble.data.table_io import read_table_csv

        return read_table_csv(Path(path))

    def write(self, path: str | Path) -> None:
        """Write the table as Parquet where `path` ends in .parquet, else as CSV; `Table.read` takes either.

        Raises:
            LabelAssembleError: As `to_csv` and `to_parquet`.
        """
        if Path(path).suffix == ".parquet":
            self.to_parquet(path)
        else:
            self.to_csv(path)

    @classmethod
    def read(cls, path: str | Path) -> "Table":
        """Return the table that `write` wrote.

        Raises:
            LabelAssembleError: As `from_csv` and `from_parquet`.
        """
        return cls.from_parquet(path) if Path(path).suffix == ".parquet" else cls.from_csv(path)

    def to_parquet(self, path: str | Path) -> None:
        """Write the table as Parquet, whole or not at all; `from_parquet` reads the same table back.

        Columns as in `to_csv`; labels are int8, null = unknown.

        Raises:
            LabelAssembleError: The file cannot be written.
        """
        from labelassemble.data.table_io import write_table_parquet

        write_table_parquet(self, Path(path))

    @classmethod
    def from_parquet(cls, path: str | Path) -> "Table":
        """Return the table that `to_parquet` wrote.

        Raises:
            LabelAssembleError: The file cannot be read or is not such a table; with file, row and column.
        """
        from labelassemble.data.table_io import read_table_parquet

        return read_table_parquet(Path(path))


TEXT_FIELDS: Final = ("paths", "names", "groups", "splits", "sources", "masks")
_NOT_BY_ROW: Final = ("classes", "subgroups", "mask_values", "notes", "files", "absence")
