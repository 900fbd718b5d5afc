"""A reader of a format of one's own, assembled with a CSV.

    python examples/own_reader.py

A reader is a class of options with a method `read` that returns a table. This one reads a folder with a subfolder for
each class, of which an image has one.
"""

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np

from labelassemble.data import CsvSource, SourceOptions, Table, assemble


class FolderSource(SourceOptions):
    """Images in a subfolder of their class: `root/melanoma/1.png`.

    Attributes:
        root: The folder.
    """

    reader: Literal["folder"] = "folder"
    root: Path

    def read(self) -> Table:
        """Return the table of the folder: each image is positive for its class and negative for the others."""
        classes = sorted(path.name for path in self.root.iterdir() if path.is_dir())
        files = sorted(self.root.glob("*/*.png"))
        labels = [[int(file.parent.name == name) for name in classes] for file in files]
        return Table(
            classes=tuple(classes),
            paths=np.array([str(file) for file in files]),
            names=np.array([f"{file.parent.name}/{file.name}" for file in files]),
            groups=np.array([""] * len(files)),  # patients are not known
            splits=np.array([""] * len(files)),  # nor are splits: `assemble` divides the images
            sources=np.array([self.name] * len(files)),
            labels=np.array(labels, dtype=np.int8),
            origins=np.zeros((len(files), len(classes)), dtype=np.uint8),  # all labels were given
        )


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    for path in ("melanoma/1.png", "melanoma/2.png", "nevus/3.png", "nevus/4.png"):
        (folder / "lesions" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "lesions" / path).touch()
    (folder / "clinic.csv").write_text("path,ulcer,melanoma\na.png,1,0\nb.png,0,\n")

    assembly = assemble(
        [
            FolderSource(name="archive", root=folder / "lesions"),
            CsvSource(name="clinic", path=folder / "clinic.csv"),
        ]
    )
    print(assembly.table.classes)
    print(assembly.table.coverage().to_string(index=False))
