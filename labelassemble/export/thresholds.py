"""Thresholds as the C++ library reads them."""

import math
from collections.abc import Mapping, Sequence


def threshold_numbers(
    thresholds: Mapping[str, float | None] | None, classes: Sequence[str]
) -> tuple[float, ...]:
    """Return one threshold a class, in order, as the C++ library reads them: NaN for none; () if none were chosen."""
    if thresholds is None:
        return ()
    found = [thresholds.get(name) for name in classes]
    return tuple(math.nan if value is None else value for value in found)
