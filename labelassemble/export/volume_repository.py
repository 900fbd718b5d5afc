"""A detection as a model of a repository, for labelassemble-serve and Triton."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from labelassemble._files import make_folder, writing
from labelassemble.export.repository import check_model_name
from labelassemble.export.triton import labels_text, volume_model_config
from labelassemble.export.volumes import VolumeExportSummary


def write_volume_repository(
    write: Callable[[Path], VolumeExportSummary], repository: Path, name: str
) -> VolumeExportSummary:
    """Write NAME/1/model.pt, NAME/config.pbtxt and NAME/labels.txt, in the place of what has that name.

    Args:
        write: exports the network to a file, as TorchScript.
        repository: the folder; made if need be.
        name: letters, digits, underscores, hyphens and dots.

    Returns:
        What `write` returns, with the file's place in the repository.

    Raises:
        LabelAssembleError: a name that cannot be a folder's, a class that is not one line, a folder that cannot be
            written, or what `write` raises.
    """
    check_model_name(name)
    make_folder(repository)
    with (
        writing(repository),
        tempfile.TemporaryDirectory(prefix=".export.", suffix=".tmp", dir=repository) as temporary,
    ):
        new = Path(temporary) / name
        (new / "1").mkdir(parents=True)
        summary = write(new / "1" / "model.pt")
        (new / "labels.txt").write_text(labels_text(summary.metadata.classes), encoding="utf-8")
        (new / "config.pbtxt").write_text(volume_model_config(summary.metadata), encoding="utf-8")
        if (repository / name).exists():
            (repository / name).rename(Path(temporary) / f".old_{name}")
        new.chmod(0o755)
        shutil.move(new, repository / name)
    return replace(summary, path=repository / name / "1" / "model.pt")
