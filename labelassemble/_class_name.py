"""What the name of a class may be, wherever it comes from: a configuration, a table, a taxonomy, a program."""

from collections.abc import Iterable
from typing import Final
from unicodedata import category

from labelassemble.errors import LabelAssembleError

# Control characters, breaks of lines and of paragraphs, and halves of characters, which no UTF-8 file can hold.
_NOT_IN_A_NAME: Final = ("Cc", "Zl", "Zp", "Cs")


def check_class_name(name: str) -> str:
    """Return the name, which exported files, tables and servers keep as one line of text.

    Raises:
        LabelAssembleError: it is no text, blank, or holds a control character or a line break.
    """
    if not isinstance(name, str):
        raise LabelAssembleError(f"a class name must be text, got {name!r}")
    if not name.strip():
        raise LabelAssembleError(f"a class name must not be blank, got {name!r}")
    if any(category(mark) in _NOT_IN_A_NAME for mark in name):
        raise LabelAssembleError(
            f"a class name must not contain a control character or a line break, got {name!r}"
        )
    return name


def check_class_list(names: Iterable[str], *, may_be_empty: bool = False) -> list[str]:
    """Return the names as a list, each checked; one text alone is refused, as each of its letters would be a class.

    Raises:
        LabelAssembleError: the names are one text, one of them is not allowed, or there is none and must be one.
    """
    if isinstance(names, str):
        raise LabelAssembleError(
            f"classes must be a list of names, got the text {names!r}: write [{names!r}]"
        )
    if not isinstance(names, Iterable):
        raise LabelAssembleError(f"classes must be a list of names, got {names!r}")
    listed = [check_class_name(name) for name in names]
    if not listed and not may_be_empty:
        raise LabelAssembleError("classes must name at least one class, got none")
    return listed
