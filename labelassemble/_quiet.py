"""Other libraries kept quiet where they speak of what is no business of the user's."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(logger: str, level: int) -> Iterator[None]:
    """Show no warnings, and nothing below `level` of the logger of that name."""
    found = logging.getLogger(logger)
    before = found.level
    found.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        found.setLevel(before)
