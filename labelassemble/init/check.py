"""Trying a configuration before its user does."""

from pathlib import Path

from labelassemble._files import make_folder, write_text
from labelassemble.config import load_config
from labelassemble.data import assemble, missing_files, missing_text
from labelassemble.errors import LabelAssembleError


def check_config(config: Path, text: str) -> str:
    """Write the configuration, assemble it, and return what is assembled, for the user to read.

    Duplicates are sought by path alone, so that no image is read.

    Raises:
        LabelAssembleError: it does not assemble; the file stays, to be mended.
    """
    make_folder(config.resolve().parent)
    write_text(config, text)
    try:
        settings = load_config(config)
        assembly = assemble(settings.sources, split=settings.split, duplicates="path")
    except LabelAssembleError as error:
        raise LabelAssembleError(f"{config} was written and does not assemble yet: {error}") from None
    missing = missing_files(assembly.table.paths)
    return assembly.report.to_text() + (missing_text(assembly.table, missing) if missing else "")
