"""Joins of two tables: how many identifiers meet is said, too few are an error with an example of both."""

import pytest

from labelassemble.data.joins import forms, join_note
from labelassemble.data.text import text_array
from labelassemble.errors import LabelAssembleError


def note(left: list[str], right: list[str]) -> str:
    return join_note("a", "studies", text_array(left), "x.csv", text_array(right), "y.csv")


def test_how_many_meet_is_said() -> None:
    assert note(["1", "2", "2"], ["0001", "2.0", " 3"]) == "all 2 studies of x.csv are in y.csv, which has 3"
    assert (
        note(["1", "2", "3"], ["1", "2"])
        == "warning: 1 of 3 studies of x.csv have no row in y.csv, such as '3'"
    )
    many = [str(number) for number in range(1, 201)]
    assert note(many, many[1:]) == "1 of 200 studies of x.csv have no row in y.csv, such as '1'"


def test_too_few_are_an_error() -> None:
    with pytest.raises(
        LabelAssembleError,
        match=r"source 'a': none of the 2 studies of x\.csv has a row in y\.csv, such as '1' against 's1': at least",
    ):
        note(["1", "2"], ["s1", "s2"])
    with pytest.raises(
        LabelAssembleError, match=r"2 of 3 studies of x\.csv have no row in y\.csv, such as '2' against '4'"
    ):
        note(["1", "2", "3"], ["1", "4", "5"])


def test_placeholders_do_not_meet() -> None:
    with pytest.raises(LabelAssembleError, match=r"none of the 1 studies of x\.csv has a row in y\.csv"):
        note(["nan", "1", ""], ["", "NaN", "2"])


def test_forms() -> None:
    assert forms(text_array(["P001", "Q17", "12-3", "Mü9"])) == {"a9", "9-9"}
