import os

import pytest
from pydantic import ValidationError

from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions


def test_the_options_are_frozen_and_know_their_keys() -> None:
    options = ViewOptions()
    with pytest.raises(ValidationError, match="frozen"):
        options.weak.rotate = 3.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match=r"rotat\n.*Extra inputs are not permitted"):
        WeakOptions.model_validate({"rotat": 3.0})


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (WeakOptions, "flip", 1.1),
        (WeakOptions, "rotate", 181.0),
        (WeakOptions, "noise", -0.1),
        (StrongOptions, "salt_pepper", 1.5),
        (StrongOptions, "brightness", -0.1),
        (StrongOptions, "erase", 2.0),
        (ViewOptions, "size", 4),
        (ViewOptions, "channels", 2),
        (ViewOptions, "backend", "kornia"),
        (ViewOptions, "threads", 0),
        (ViewOptions, "bad_files", "ignore"),
        (ViewOptions, "bad_files_limit", 1.5),
        (ViewOptions, "std", (0.0,)),
    ],
)
def test_strengths_that_make_no_sense_are_refused(kind: type, key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        kind(**{key: value})


def test_what_belongs_together_is_checked_together() -> None:
    with pytest.raises(ValidationError, match=r"erase_area must go from small to large, got \[0\.5, 0\.1\]"):
        StrongOptions(erase_area=(0.5, 0.1))
    with pytest.raises(ValidationError, match="mean must have 1 or 1 values, got 3"):
        ViewOptions(channels=1, mean=(0.1, 0.2, 0.3))


def test_every_processor_decodes_unless_told_otherwise() -> None:
    assert ViewOptions().decoders() == len(os.sched_getaffinity(0))
    assert ViewOptions(threads=3).decoders() == 3


def test_the_options_survive_json() -> None:
    options = ViewOptions(channels=3, mean=(0.1, 0.2, 0.3), weak=WeakOptions(flip=0.0))
    assert ViewOptions.model_validate_json(options.model_dump_json()) == options
