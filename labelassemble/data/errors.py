"""The error of an image that cannot be read."""

from labelassemble.errors import LabelAssembleError


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
