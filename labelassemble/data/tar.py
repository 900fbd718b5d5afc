"""A tar shard: where each member lies, and its bytes."""

import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from labelassemble.errors import LabelAssembleError

_BLOCK = 512


class TarIndex:
    """The members of an uncompressed tar file, each read by its position.

    Attributes:
        path: The file.
        members: Offset and size in bytes of each regular file in it, in order.
    """

    def __init__(self, path: Path) -> None:
        """Read the headers of all members.

        Raises:
            LabelAssembleError: The file is missing, damaged, cut off, compressed, or names a member twice.
        """
        self.path = path
        members: dict[str, tuple[int, int]] = {}
        try:
            with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.isfile() and not member.issparse():
                        if member.name in members:
                            raise LabelAssembleError(f"{path}: the member '{member.name}' stands twice")
                        members[member.name] = (member.offset_data, member.size)
                    elif not member.isdir():
                        raise LabelAssembleError(f"{path}: the member '{member.name}' must be a plain file")
                end = tar.offset
            self._check_end(end)
        except LabelAssembleError:
            raise
        except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise LabelAssembleError(
                f"{path}: cannot be read as an uncompressed tar file ({reason})"
            ) from None
        self.members: Mapping[str, tuple[int, int]] = members

    def _check_end(self, end: int) -> None:
        """A tar file ends with blocks of zeros; tarfile stops without a word at a damaged header, too."""
        with self.path.open("rb") as file:
            file.seek(end)
            rest = file.read()
        if len(rest) < _BLOCK or rest.count(0) != len(rest):
            raise LabelAssembleError(f"{self.path}: the tar file is cut off or damaged behind byte {end}")

    def read(self, member: str) -> bytes:
        """Return the bytes of a member.

        Raises:
            LabelAssembleError: There is no such member, or the file has become shorter.
        """
        if member not in self.members:
            raise LabelAssembleError(f"{self.path}: the tar file has no member '{member}'")
        offset, size = self.members[member]
        try:  # opened for each read: a set may have more shards than a process may have open files
            with self.path.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise LabelAssembleError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        if len(data) != size:
            raise LabelAssembleError(f"{self.path}: the tar file is cut off in '{member}'")
        return data
