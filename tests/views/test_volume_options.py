"""What a configuration may say of volumes."""

from typing import Any

import pytest
from pydantic import ValidationError

from labelassemble.views.volume_options import VolumeOptions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch": (64,)}, r"2 numbers \(slices\) or 3 \(volumes\), got 1"),
        ({"patch": (64, 64), "spacing": (1.0, 1.0, 1.0)}, r"as many numbers as patch \(2\)"),
        ({"window": (240.0, -100.0)}, r"window must go from low to high, got \[240.0, -100.0\]"),
        ({"percentiles": (5.0, 5.0)}, "percentiles must go from low to high"),
        ({"spacing": (0.0, 1.0, 1.0)}, "greater than 0"),
        ({"strong": {"cutout_size": (0.5, 0.1)}}, "from small to large"),
        ({"overlap": 1.0}, "less than 1"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VolumeOptions(**values)


def test_the_patch_says_how_many_dimensions_the_task_has() -> None:
    assert VolumeOptions().dims == 3
    assert VolumeOptions(patch=(64, 64)).dims == 2
