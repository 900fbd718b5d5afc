"""Splitting by patient: reproducible from the seed, and no patient on two sides."""

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from labelassemble.data.text import TextArray, text_array, text_codes, uniform_numbers

_RANK: Final = {"": 0, "trainval": 1, "train": 2, "val": 3, "test": 4}
_NAMES: Final = text_array(["train", "val", "test"])  # in the order of their ranks


class SplitOptions(BaseModel):
    """How rows without a published split are divided.

    Attributes:
        val: Share of the patients that are validated on, in [0, 1).
        test: Share of the patients that are tested on, in [0, 1); val + test must be below 1.
        seed: Another seed, another split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    val: Annotated[float, Field(ge=0, lt=1)] = 0.1
    test: Annotated[float, Field(ge=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "SplitOptions":
        if self.val + self.test >= 1:
            raise ValueError(f"val + test must be below 1, got {self.val} + {self.test}")
        return self


@dataclass(frozen=True)
class Splits:
    """What `split_by_group` decided.

    Attributes:
        splits: "train", "val" or "test" of each row, text [N].
        moved: True where a row's published split was overruled, because its group has a stricter one, bool [N].
        group: The number of each row's group, int64 [N].
    """

    splits: TextArray
    moved: NDArray[np.bool_]
    group: NDArray[np.int64]

    def select(self, rows: NDArray[np.int64]) -> "Splits":
        """Return what was decided for some rows, [M], in that order."""
        if len(rows) == len(self.group):
            return self
        return Splits(self.splits[rows], self.moved[rows], self.group[rows])


def split_by_group(published: TextArray, groups: TextArray, options: SplitOptions) -> Splits:
    """Return a split for each row in which every group lies on one side.

    A group goes where its strictest published row goes: test before val before train. A group with nothing published
    but "trainval" is train or val, a group with nothing published is train, val or test, both by a hash of
    (seed, group): the rows that others add or take away change nothing for it.

    Args:
        published: "train", "val", "test", "trainval" or "" for each row, text [N].
        groups: The group of each row, text [N].
        options: The shares and the seed.
    """
    values, code = text_codes(published)
    rank = np.array([_RANK[str(value)] for value in values], dtype=np.int8)[code]
    strictest = rank
    names, group = text_codes(groups)
    if len(values) > 1:
        by_group = np.zeros(int(group.max()) + 1, dtype=np.int8)
        for level in np.unique(rank):  # the last write, the strictest, stays
            by_group[group[rank == level]] = level
        strictest = by_group[group]
    final = strictest.copy()
    open_rows = strictest < _RANK["train"]
    if open_rows.any():
        is_open = np.zeros(len(names), dtype=np.bool_)
        is_open[group[open_rows]] = True
        numbers = np.zeros(len(names))
        numbers[is_open] = uniform_numbers(names[is_open], options.seed)
        draw = numbers[group[open_rows]]
        closed = strictest[open_rows] == _RANK["trainval"]
        # within a published train + val part, val keeps the share that it has of what is not test
        test = np.where(closed, 0.0, options.test)
        val = np.where(closed, options.val / (1 - options.test), options.test + options.val)
        final[open_rows] = np.where(
            draw < test, _RANK["test"], np.where(draw < val, _RANK["val"], _RANK["train"])
        )
    moved = (rank >= _RANK["train"]) & (rank != final) | (rank == _RANK["trainval"]) & (
        final == _RANK["test"]
    )
    return Splits(_NAMES[final - _RANK["train"]], moved, group)
