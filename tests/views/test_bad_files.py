import logging

import pytest

from labelassemble.data.errors import ImageError
from labelassemble.errors import LabelAssembleError
from labelassemble.views.bad_files import BadFiles


def test_bad_files_are_named_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    bad = BadFiles(1000, policy="skip", limit=0.01)
    with caplog.at_level(logging.WARNING):
        bad.add(7, ImageError("a.png", "damaged"))
        bad.add(7, ImageError("a.png", "damaged"))
        bad.add(9, ImageError("b.png", "missing"))
    assert len(bad) == 2
    assert 7 in bad
    assert 8 not in bad
    assert [record.getMessage() for record in caplog.records] == [
        "left out, 1 so far: a.png: damaged",
        "left out, 2 so far: b.png: missing",
    ]


def test_more_than_the_limit_stops_with_a_list() -> None:
    bad = BadFiles(1000, policy="skip", limit=0.025)
    for row in range(25):
        bad.add(row, ImageError(f"{row}.png", "damaged"))
    with pytest.raises(LabelAssembleError) as raised:
        bad.add(25, ImageError("25.png", "damaged"))
    message = str(raised.value)
    assert message.startswith(
        "26 of 1000 images cannot be read, more than views.bad_files_limit = 0.025 allows:\n  0.png: damaged\n"
    )
    assert message.endswith("  19.png: damaged\n  ... and 6 more")


def test_stop_ends_at_the_first() -> None:
    bad = BadFiles(1000, policy="stop", limit=1.0)
    with pytest.raises(ImageError, match=r"a\.png: damaged"):
        bad.add(0, ImageError("a.png", "damaged"))


def test_what_other_processes_found_counts_as_well(caplog: pytest.LogCaptureFixture) -> None:
    bad = BadFiles(1000, policy="skip", limit=0.002)
    bad.add(7, ImageError("7.png", "damaged"))
    caplog.clear()
    bad.merge({7: ImageError("7.png", "damaged"), 8: ImageError("8.png", "missing")})
    assert set(bad.errors) == {7, 8}
    assert not caplog.records  # the process that found it has warned
    with pytest.raises(
        LabelAssembleError, match=r"(?s)3 of 1000 images cannot be read, .*\n  9\.png: damaged"
    ):
        bad.merge({9: ImageError("9.png", "damaged")})
    with pytest.raises(ImageError, match=r"9\.png: damaged"):
        BadFiles(1000, policy="stop", limit=1.0).merge({9: ImageError("9.png", "damaged")})
