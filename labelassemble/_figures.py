"""Names in matplotlib's figures: of classes, sources and files, as their users write them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import rc_context


@contextmanager
def names_as_written() -> Iterator[None]:
    """Take dollar signs as such, not as mathematics, and warn of no letter that the font lacks.

    A text keeps what holds where it is made, and axes make the texts of their titles: the whole figure is made within.
    As a decorator it covers a function.
    """
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
