"""Columns of text: their codes."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from labelassemble.data import text
from labelassemble.data.text import text_array, text_codes, text_numbers


@pytest.mark.parametrize("rows", [0, 1, 7, 100, 101])
def test_numbers_are_the_codes_of_texts_whatever_the_blocks(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_ROWS_AT_ONCE", 7)
    random = np.random.default_rng(rows)
    values = text_array([f"é{number}" for number in random.integers(0, 40, rows)])
    assert text_numbers(values).tolist() == text_codes(values)[1].tolist()


def test_texts_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def length(values: NDArray[np.object_], **_: object) -> NDArray[np.uint64]:
        nonlocal asked
        asked += len(values)
        return np.array([len(value) for value in values], np.uint64)

    monkeypatch.setattr(text, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(pd.util, "hash_array", length)
    assert text_numbers(text_array(["ab", "c", "ab", "cd", "c"])).tolist() == [0, 1, 0, 2, 1]
    assert asked == 5
