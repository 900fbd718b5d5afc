"""Writing an exported file: whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labelassemble._files import writing
from labelassemble.errors import LabelAssembleError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to, which becomes `path` when the block ends without an error.

    Readers never see half of a file, and an earlier one stays when the block fails. The given path has the name of
    `path`, in a folder of its own.

    Raises:
        LabelAssembleError: the folder of `path` does not exist or cannot be written.
    """
    if not path.parent.is_dir():
        raise LabelAssembleError(f"{path}: the folder {path.parent} does not exist")
    with writing(path):
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        temporary = folder / path.name
        with writing(path):
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
