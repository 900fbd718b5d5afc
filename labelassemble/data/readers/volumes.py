"""The reader of volumes and slices with masks: a table that names them, or patterns that find them."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from labelassemble._class_name import check_class_name
from labelassemble.data.mask_labels import mask_labels
from labelassemble.data.new_table import new_table
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.readers.volume_folder import find_cases, table_of
from labelassemble.data.readers.volume_table import CaseRows, match_rows, no_rows, read_case_tables
from labelassemble.data.subgroups import SubgroupCells
from labelassemble.data.table import Table
from labelassemble.data.text import constant_text, text_array
from labelassemble.errors import LabelAssembleError

_LARGEST: Final = 65535


def _mask_values(value: object) -> object:
    """Return the mapping with its keys as numbers; two that are the same number are refused."""
    if not isinstance(value, Mapping):
        return value
    found: dict[int, object] = {}
    for key, name in value.items():
        number = int(key) if isinstance(key, str) and key.strip().isdecimal() else key
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= _LARGEST:
            raise ValueError(
                f"a value of a mask must be a whole number from 1 to {_LARGEST} (0 is where nothing is drawn), "
                f"got {key!r}"
            )
        if number in found:
            raise ValueError(f"the value {number} stands for two classes, '{found[number]}' and '{name}'")
        if isinstance(name, str):
            check_class_name(name)
        found[number] = name
    return found


def _pattern(value: str) -> str:
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    if not groups:
        raise ValueError("must have a group in brackets, which is the patient's id")
    return value


class MaskOptions(BaseModel):
    """What the masks of a source show.

    Attributes:
        labels: The class that each value stands for: {1: PDAC, 2: cyst}. Several values may stand for one class; a
            value of a mask that is not named is an error. What a mask leaves at 0 is absent for these classes, and
            unknown for all others.
        files: Where the mask of an image lies that `images` found: each `{}` is what a `*` of the image's path stands
            for, in order: "labelsTr/{}.nii.gz".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    labels: Annotated[dict[int, str], BeforeValidator(_mask_values), Field(min_length=1)]
    files: str | None = None


class VolumesSource(TabularOptions):
    """Volumes (NIfTI, a folder of DICOM slices, arrays of NumPy archives) or slices (image files), each with a mask.

    Either a table names image, mask and patient of each case (`path`), or patterns find them (`images`, `masks.files`).
    An archive that a pattern finds holds many cases: a stack `images` [N, ...] or `jpeg` with `offsets`, or else a case
    a key; its masks are in the stack `masks` or under the same keys.

    Attributes:
        path: The table, a CSV with a header. Beside `images` it says more of the cases found: each `{}` in its name is
            what a `*` of the image's path stands for; its rows are in the order of an archive's stack, or else matched
            by `name_column`.
        root: The folder that paths and patterns start at; by default the table's own.
        images: A pattern of the images below `root`, in which `*` stands for any part of a name: "imagesTr/*.nii.gz". A
            `*` that stands for train, val or test says the split; where none says val, train is divided.
        masks: What the masks show, and for `images` where they lie. Without it nothing is drawn.
        classes: Columns of the table that say of the whole case whether it has a class: 1, 0, -1 or blank = unknown, -2
            = uncertain. "0" holds for each of its voxels, "1" says nothing of where; what the mask draws counts more.
        path_column: The column with the path of the image.
        mask_column: The column with the path of the mask, blank where nothing is drawn; by default `mask` where there
            is one.
        patient_column: The column with the patient's id; by default `patient` where there is one.
        split_column: The column with train, val, test, trainval or nothing; by default `split` where there is one.
        name_column: The column with the case's name; by default `name` where there is one, else the image's path.
        patient_pattern: Of the cases that `images` finds, a regular expression whose first group is the patient's id,
            found in the image's path below `root`: "(P[0-9]+)_". Without it and without a table each case is taken for
            a patient of its own.
    """

    reader: Literal["volumes"] = "volumes"
    path: FilePath | None = None
    root: FilePath | None = None
    images: str | None = None
    masks: MaskOptions | None = None
    classes: tuple[str, ...] = ()
    path_column: str = "image"
    mask_column: str | None = None
    patient_column: str | None = None
    split_column: str | None = None
    name_column: str | None = None
    patient_pattern: Annotated[str, AfterValidator(_pattern)] | None = None

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        if self.path is None and self.images is None:
            raise ValueError("`path` (a table) or `images` (a pattern) must say where the cases are")
        if self.images is not None and self.root is None:
            raise ValueError("`images` is a pattern below `root`, which must be given")
        if self.masks is not None and (self.masks.files is None) != (self.images is None):
            raise ValueError("`masks: files` goes with `images`; of a table `mask_column` names the masks")
        if self.patient_pattern is not None and (self.images is None or self.patient_column):
            raise ValueError("`patient_pattern` goes with `images` and without `patient_column`")
        if self.path is None and self.classes:
            raise ValueError("`classes` are columns of the table, which `path` must name")
        return self

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        path = None if self.path is None else base / self.path
        root = path.parent if self.root is None and path is not None else base / (self.root or "")
        return self.model_copy(update={"path": path, "root": root})

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the cases, with those `subgroups` that its file has.

        Each mask is read: what it shows is the label of its case.

        Raises:
            LabelAssembleError: Anything in the table breaks the rules above, or a mask those of `check_mask`.
        """
        named = {} if self.masks is None else self.masks.labels
        classes = tuple(dict.fromkeys([*named.values(), *self.classes]))
        if not classes:
            raise LabelAssembleError(
                f"source '{self.name}': neither `masks: labels` nor `classes` names a class"
            )
        cells = self.subgroup_cells(subgroups)
        rows, told, files = self._rows(classes, cells)
        masks = rows.texts["mask"]
        drawn = masks != ""
        if self.masks is not None and not drawn.any():
            raise LabelAssembleError(f"source '{self.name}': it has `masks`, and none of its cases has one")
        if self.masks is not None and not drawn.all():
            count = int(np.count_nonzero(~drawn))
            told += (f"{count} of its {len(masks)} cases have no mask: nothing is drawn in them",)
        paths = rows.texts["image"]
        labels, against = mask_labels(paths.tolist(), masks.tolist(), named, classes, rows.labels)
        return new_table(
            classes,
            paths=paths,
            names=rows.texts["name"],
            labels=labels,
            sources=self.name,
            groups=rows.texts["patient"],
            splits=rows.texts["split"],
            subgroups=rows.subgroups,
            masks=masks,
            mask_values={self.name: named} if named else {},
            notes=(*cells.notes(), *told, *against),
            files=files,
        )

    def _rows(
        self, classes: Sequence[str], cells: SubgroupCells
    ) -> tuple[CaseRows, tuple[str, ...], list[Path]]:
        """Return the cases, what there is to tell of them, and the tables that were read."""
        if self.images is None:
            assert self.path is not None  # see _check_places
            rows, told = self._read([self.path], classes, cells, needs=("image",))
            texts = dict(rows.texts)
            if self.masks is None:
                texts["mask"] = constant_text("", len(rows.labels))
            if not (texts["name"] != "").any():
                base = f"{os.path.abspath(self.root or self.path.parent)}/"
                texts["name"] = text_array([path.removeprefix(base) for path in texts["image"].tolist()])
            return rows._replace(texts=texts), told, [self.path]
        assert self.root is not None
        pattern = None if self.masks is None else self.masks.files
        root = Path(os.path.abspath(self.root))
        found = find_cases(root, self.images, pattern, f"source '{self.name}'")
        tables: list[Path] = []
        told = ()
        if self.path is None:
            rows = no_rows(sum(len(case.paths) for case in found), len(classes))
        else:
            of = [table_of(self.path, case) for case in found]
            tables = list(dict.fromkeys(of))
            by_name = any(case.keys for case in found)
            every, told = self._read(tables, classes, cells, needs=("name",) if by_name else ())
            index, missed = match_rows(found, tables, of, every)
            rows, told = every.take(index), (*told, *missed)
        texts = dict(rows.texts)
        for text, cases in (
            ("image", [path for case in found for path in case.paths]),
            ("name", [name for case in found for name in case.names]),
            ("mask", [mask for case in found for mask in case.masks]),
        ):
            texts[text] = text_array(cases)
        if not (texts["split"] != "").any():
            named = {case.split for case in found}
            splits = (
                {} if "val" in named else {"train": "trainval"}
            )  # as other readers, where nothing is for it
            texts["split"] = text_array(
                [splits.get(case.split, case.split) for case in found for _ in case.paths]
            )
        if self.patient_pattern is not None:
            texts["patient"] = text_array(self._patients(texts["name"].tolist()))
        return rows._replace(texts=texts), told, tables

    def _patients(self, names: Sequence[str]) -> list[str]:
        patients = []
        for name in names:
            match = re.search(self.patient_pattern or "", name)
            if match is None or not match[1]:
                raise LabelAssembleError(
                    f"source '{self.name}', patient_pattern: '{self.patient_pattern}' finds no patient in '{name}'"
                )
            patients.append(match[1])
        return patients

    def _read(
        self, tables: Sequence[Path], classes: Sequence[str], cells: SubgroupCells, *, needs: Sequence[str]
    ) -> tuple[CaseRows, tuple[str, ...]]:
        uses = {
            "image": self.path_column if self.images is None else "",
            "name": self.name_column,
            "mask": self.mask_column if self.images is None else "",
            "patient": self.patient_column,
            "split": self.split_column,
        }
        root = self.root or tables[0].parent
        return read_case_tables(tables, uses, classes, self.classes, root=root, subgroups=cells, needs=needs)
