"""Files that cannot be read: named, counted, left out, and too many of them an error."""

import logging
import threading
from typing import Literal

from labelassemble.data.errors import ImageError
from labelassemble.errors import LabelAssembleError

_SHOWN = 20  # files named in the error that ends a run

_log = logging.getLogger(__name__)


class BadFiles:
    """The unreadable files of a table of `total` images, found while it is read.

    Args:
        total: images in the table.
        policy: "skip" leaves them out, "stop" raises at the first.
        limit: largest share of `total` that may be left out.

    Attributes:
        errors: what is wrong, by row.
    """

    def __init__(self, total: int, *, policy: Literal["skip", "stop"], limit: float) -> None:
        self._total = total
        self._policy = policy
        self._limit = limit
        self._lock = threading.Lock()
        self.errors: dict[int, ImageError] = {}

    def __len__(self) -> int:
        return len(self.errors)

    def __contains__(self, row: int) -> bool:
        return row in self.errors

    def add(self, row: int, error: ImageError) -> None:
        """Record that the file of `row` cannot be read, and warn once.

        Raises:
            ImageError: under the policy "stop".
            LabelAssembleError: more than the allowed share is bad; names them.
        """
        with self._lock:
            if row in self.errors:
                return
            self.errors[row] = error
            count = len(self.errors)
        if self._policy == "stop":
            raise error
        self.check(count)
        _log.warning("left out, %d so far: %s", count, error)

    def check(self, count: int) -> None:
        """Raise LabelAssembleError if `count` bad files, those that other processes found included, are too many."""
        if count > self._limit * self._total:
            raise LabelAssembleError(
                f"{count} of {self._total} images cannot be read, more than views.bad_files_limit = {self._limit:g} "
                f"allows:{self._listed()}"
            )

    def to_text(self) -> str:
        """Return a line for each file, the first 20 of them."""
        errors = list(self.errors.values())
        lines = [str(error) for error in errors[:_SHOWN]]
        if len(errors) > _SHOWN:
            lines.append(f"... and {len(errors) - _SHOWN} more")
        return "\n".join(lines)

    def _listed(self) -> str:
        """Return the files to follow a colon: one in the same line, several in lines of their own."""
        lines = self.to_text().split("\n")
        return f" {lines[0]}" if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)
