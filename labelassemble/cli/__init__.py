"""The command line; a module a subject, in the order in which --help shows their commands."""

import errno
import sys

from labelassemble._extension import check_processor
from labelassemble.cli.app import app
from labelassemble.errors import LabelAssembleError

# isort: off
from labelassemble.cli import doctor, train, evaluate, data, serve  # noqa: F401  in the order of --help
# isort: on

__all__ = ["app", "main"]

# What a disk says that takes no more.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def main() -> None:
    """Run the command line; a user's mistake is one sentence on stderr and exit status 2."""
    try:
        check_processor()
        app()
    except LabelAssembleError as error:
        print(f"labelassemble: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nlabelassemble: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        print(
            f"labelassemble: {error.filename or 'a file'}: cannot be written ({error.strerror})",
            file=sys.stderr,
        )
        sys.exit(2)
