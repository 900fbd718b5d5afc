"""The names that a class may have."""

from collections.abc import Sequence
from typing import Final

from labelassemble._class_name import check_class_name
from labelassemble.data.subgroups import PREFIX
from labelassemble.errors import LabelAssembleError

RESERVED_COLUMNS: Final = ("path", "name", "source", "group", "split", "assumed")
"""The columns of a table's CSV that are not classes."""
MASK_PATH: Final = "mask:path"
"""The column of the masks, in the CSV of a table that has any."""
MASK_VALUES: Final = "mask:values"
"""The column that says which class each value of a mask stands for: "1=PDAC;2=cyst"."""


def check_class_names(classes: Sequence[str]) -> None:
    """Raise LabelAssembleError unless the names can head the columns of a table: distinct, not blank, not reserved."""
    for index, name in enumerate(classes):
        if not name or name != name.strip():
            raise LabelAssembleError(f"a class name must not be blank or have spaces around it, got '{name}'")
        if name.lower() in RESERVED_COLUMNS or name == "default":
            raise LabelAssembleError(
                f"a class must not be named '{name}': the word is taken by the table itself"
            )
        if name.startswith(PREFIX):
            raise LabelAssembleError(f"a class name must not begin with '{PREFIX}', got '{name}'")
        if name in (MASK_PATH, MASK_VALUES):
            raise LabelAssembleError(
                f"a class must not be named '{name}': the word is taken by the table itself"
            )
        if ";" in name:
            raise LabelAssembleError(f"a class name must not contain ';', got {name!r}")
        check_class_name(name)
        if name in classes[:index]:
            raise LabelAssembleError(f"each class must be named once, got '{name}' twice")
