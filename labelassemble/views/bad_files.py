"""Files that cannot be read: named, counted, left out, and too many of them an error."""

import logging
import threading
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.errors import ImageError, PluginError
from labelassemble.errors import LabelAssembleError

_SHOWN = 20  # files named in the error that ends a run

_log = logging.getLogger(__name__)


class BadFiles:
    """The unreadable files of a table of `total` images, found while it is read.

    Args:
        total: images in the table.
        policy: "skip" leaves them out, "stop" raises at the first.
        limit: largest share of `total` that may be left out.
        key: what errors call the limit.
        noun: what errors call a file.

    Attributes:
        errors: what is wrong, by row.
    """

    def __init__(
        self,
        total: int,
        *,
        policy: Literal["skip", "stop"],
        limit: float,
        key: str = "views.bad_files_limit",
        noun: str = "image",
    ) -> None:
        self._total = total
        self._policy = policy
        self._limit, self._key, self._noun = limit, key, noun
        self._lock = threading.RLock()
        self.errors: dict[int, ImageError] = {}

    def __len__(self) -> int:
        return len(self.errors)

    def __contains__(self, row: int) -> bool:
        return row in self.errors

    def readable(self, count: int) -> NDArray[np.bool_]:
        """Return which of the first `count` rows are not recorded as bad, bool [count]."""
        found = np.ones(count, dtype=np.bool_)
        found[list(self.errors)] = False
        return found

    def add(self, row: int, error: ImageError) -> None:
        """Record that the file of `row` cannot be read, and warn once.

        Raises:
            ImageError: under the policy "stop", or it needs a package that is not installed.
            LabelAssembleError: more than the allowed share is bad; names them.
        """
        if isinstance(error, PluginError):
            raise error  # the machine's fault and not the file's, and so of all files like it
        with self._lock:  # warnings count up whichever threads read
            if self._take({row: error}):
                _log.warning("left out, %d so far: %s", len(self), error)

    def merge(self, errors: Mapping[int, ImageError]) -> None:
        """Record what other processes found in the same table (their `errors`), of which they have warned.

        A process meets only its own part of an epoch's files. Where all merge what all found, after each epoch, they
        leave out the same files from then on, and more than the allowed share ends them together, as it ends one.

        Raises:
            ImageError: under the policy "stop".
            LabelAssembleError: more than the allowed share is bad; names them.
        """
        self._take(errors)

    def _take(self, errors: Mapping[int, ImageError]) -> bool:
        """Record errors and return whether any is new."""
        with self._lock:
            new = {row: error for row, error in errors.items() if row not in self.errors}
            self.errors.update(new)
            count = len(self.errors)
        if not new:
            return False
        if self._policy == "stop":
            raise next(iter(new.values()))
        self.check(count)
        return True

    def check(self, count: int) -> None:
        """Raise LabelAssembleError if `count` bad files, those that other processes found included, are too many."""
        if count > self._limit * self._total:
            raise LabelAssembleError(
                f"{count} of {self._total} {self._noun}s cannot be read, more than {self._key} = {self._limit:g} "
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
