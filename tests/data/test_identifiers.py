"""Identifiers: which spellings are the same, which never are, and which say that there is none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelassemble.data.identifiers import PLACEHOLDERS, IdRule, plain_ids, plain_keys
from labelassemble.data.text import text_array


def plain(*written: str, rule: IdRule = "numbers") -> list[str]:
    return plain_ids(text_array(written), rule).values.tolist()


@pytest.mark.parametrize(
    ("written", "is_number"),
    [
        ("00000013", "13"),
        ("13.0", "13"),
        ("13.", "13"),
        ("0013.00", "13"),
        (" 13", "13"),
        ("13\t", "13"),
        ("\u00a013\u200b", "13"),
        ("1.3E+01", "13"),
        ("1.3e1", "13"),
        ("1.9000001e+07", "19000001"),
        ("1.90000010E+7", "19000001"),
        ("5.9E7", "59000000"),
        ("1e+05", "100000"),
        ("000", "0"),
        ("-7.0", "-7"),
        ("sirm:007", "sirm:7"),
        ("sirm: 7.0", "sirm:7"),
    ],
)
def test_a_whole_number_is_the_same_however_it_is_written(written: str, is_number: str) -> None:
    assert plain(written) == [is_number]


@pytest.mark.parametrize(
    "written",
    [
        "P007",
        "P7",
        "007P",
        "patient00013",
        "1.5",
        "1.20",
        "1.2.840.0.7",
        "12e5",
        "3e7",
        "0x13",
        "1.23e+1",
        "a:b",
        "7:",
    ],
)
def test_nothing_but_a_whole_number_is_changed(written: str) -> None:
    assert plain(written) == [written]


def test_a_word_that_says_that_there_is_none_is_blank() -> None:
    for word in PLACEHOLDERS:
        assert plain(word, word.upper(), f" {word} ", f"site:{word}", rule="text") == [""] * 4, word
    ids = plain_ids(text_array(["unknown", "NaN", "7", "unknown", "", "Unknown-7", "Nana"]))
    assert ids.values.tolist() == ["", "", "7", "", "", "Unknown-7", "Nana"]
    assert ids.blanked == {"unknown": 2, "NaN": 1}


def test_a_code_for_none_is_blank_where_it_is_far_too_common() -> None:
    patients = ["1", "2", "2", "3"]
    for code in ("0", "-1", "999", "00000000", "9999.0"):
        ids = plain_ids(text_array([code] * 11 + patients))
        assert ids.values.tolist() == [""] * 11 + patients, code
        assert sum(ids.blanked.values()) == 11
    assert plain(*["0"] * 10, *patients) == ["0"] * 10 + patients  # a register may begin with patient 0
    assert plain(*["0"] * 20, *["1"] * 10) == ["0"] * 20 + ["1"] * 10
    assert plain(*["0"] * 20) == ["0"] * 20


def test_what_a_source_writes_in_two_ways_is_named() -> None:
    written = text_array(["7", "007", "7.0", "8", " 8", "P9", "12", "1.2E+01"])
    ids = plain_ids(written)
    assert ids.alike == {"7": ("007", "7.0", "7"), "12": ("1.2E+01", "12")}
    assert ids.alike_count == 2
    assert plain_ids(written, "numbers").alike == {}
    assert plain_ids(text_array(["007", "8", " 8 ", "9"])).alike == {}


@settings(deadline=None)
@given(
    written=st.lists(
        st.sampled_from(
            ["7", "07", "7.0", " 7", "8", "008", "P7", "nan", "", "7e+00", "x:7", "x:07", "9", "10", "1e+01"]
        ),
        max_size=12,
    )
)
def test_the_rule_in_arrays_is_the_rule_one_by_one(written: list[str]) -> None:
    ids = plain_ids(text_array(written))
    assert ids.values.tolist() == [plain(item)[0] for item in written]
    spellings: dict[str, set[str]] = {}
    for item in written:
        spellings.setdefault(plain(item)[0], set()).add(item.strip())
    several = {key: own for key, own in spellings.items() if key and len(own) > 1}
    assert ids.alike_count == len(several)
    assert {key: set(own) for key, own in ids.alike.items()}.items() <= several.items()
    assert ids.blanked == {item: written.count(item) for item in written if item == "nan"}


def test_how_much_of_the_rule_holds_can_be_said() -> None:
    assert plain("007", "7.0", " 7", "NA", rule="text") == ["007", "7.0", "7", ""]
    assert plain("007", "7.0", " 7", "NA", rule="exact") == ["007", "7.0", " 7", "NA"]


def test_lost_digits_are_counted() -> None:
    ids = plain_ids(text_array(["1.23457E+11", "1.23457E+11", "1.9000001E+07", "123457000000"]))
    assert (ids.shortened, ids.shortened_example) == (2, "1.23457E+11")


def test_keys_of_a_join_are_plain_numbers() -> None:
    assert plain_keys(text_array(["59000001.0", "59000001", "a1-b1 "])).tolist() == [
        "59000001",
        "59000001",
        "a1-b1",
    ]
    assert plain_keys(text_array([])).tolist() == []
