"""The command line; a module a subject, in the order in which --help shows their commands."""

import errno
import io
import os
import sys
from typing import Any, TextIO

from labelassemble.cli.app import app
from labelassemble.errors import LabelAssembleError

# isort: off
from labelassemble.cli import init, doctor, train, evaluate, predict, site, data, serve  # noqa: F401  in the order of --help
# isort: on

__all__ = ["app", "main"]

# What a disk says that takes no more.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class _Output(io.FileIO):
    """An output whose reader may go away, as `head` does: what is printed after that is lost, the work is not."""

    def write(self, block: Any) -> int:
        try:
            return super().write(block) or 0
        except BrokenPipeError:
            return memoryview(block).nbytes


def _unbreakable(stream: TextIO) -> TextIO:
    """Return a stream to the same file that takes no notice of a reader that has gone."""
    buffer = getattr(stream, "buffer", None)
    if not isinstance(getattr(buffer, "raw", buffer), io.FileIO):  # where Python is embedded, perhaps no file
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.isatty() or stream is sys.stderr,
        write_through=getattr(stream, "write_through", False),
    )


def main() -> None:
    """Run the command line; a user's mistake is one sentence on stderr and exit status 2."""
    sys.stdout, sys.stderr = _unbreakable(sys.stdout), _unbreakable(sys.stderr)
    try:
        if "ATEN_CPU_CAPABILITY" in os.environ:
            from labelassemble._extension import check_processor

            check_processor()
        app()
    except LabelAssembleError as error:
        print(f"labelassemble: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nlabelassemble: stopped", file=sys.stderr)
        sys.exit(130)
    except SystemExit as stop:  # Typer makes one of a Ctrl-C
        if isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt):
            print("\nlabelassemble: stopped", file=sys.stderr)
        raise
    except OSError as error:
        if error.errno not in _DISK and error.filename is None:
            raise  # of no file: a defect of ours
        what = "cannot be written" if error.errno in _DISK else "cannot be read or written"
        print(f"labelassemble: {error.filename or 'a file'}: {what} ({error.strerror})", file=sys.stderr)
        sys.exit(2)
