"""The error of an image that cannot be read."""

import re
from typing import Final

from labelassemble.errors import LabelAssembleError

_OBJECT: Final = re.compile(r"<?[\w.]+ object at 0x[0-9a-f]+>?")


class ImageError(LabelAssembleError):
    """An image that cannot be read: names the file and the reason.

    Attributes:
        path: The image, as the table has it.
        reason: What is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.path, self.reason)  # so that it travels from a worker process


class PluginError(ImageError):
    """An image that is not damaged, and that a package to be installed would read; the reason begins with "needs"."""


def reason_of(error: BaseException) -> str:
    """Return what a decoder says of damage, in one line and without the names of its objects."""
    if type(error).__name__ == "UnidentifiedImageError":
        return "no image file of a kind that is read"
    told = without_objects(" ".join((getattr(error, "strerror", None) or str(error)).split()))
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def without_objects(text: str) -> str:
    """Return a text in which what Python prints of an object is not."""
    return _OBJECT.sub("what is there", text)
