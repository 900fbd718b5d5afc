"""From a folder or a table of volumes and masks to the source that reads them."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from labelassemble._class_name import check_class_name
from labelassemble.data.errors import ImageError
from labelassemble.data.mask_files import mask_summary
from labelassemble.data.readers.volume_folder import table_of
from labelassemble.data.volumes import is_nifti_name, read_grid, read_volume
from labelassemble.errors import LabelAssembleError
from labelassemble.init.columns import Uses, guess_uses, plain
from labelassemble.init.mask_patterns import Listed, Patterns, find_patterns, list_volumes, why_no_masks
from labelassemble.init.profile import Column, read_columns
from labelassemble.init.proposal import Proposal

_LOOKED_AT: Final = 12  # volumes whose size and spacing are read
_MULTIPLE: Final = 16  # of the sizes of a patch
_SHOWN: Final = 5
_AIR: Final = -500  # HU: a volume that has less is CT
_MASK_COLUMNS: Final = frozenset(
    [
        "mask",
        "maskpath",
        "maskfile",
        "seg",
        "segmentation",
        "segmentationpath",
        "label",
        "labelpath",
        "annotation",
    ]
)


def propose_volumes(data: Path, name: str, *, slices: bool = False) -> Proposal | None:
    """Return the source of a folder of volumes (or slices) with masks; None where it is no such folder.

    Every mask is read for the values that it has; `assemble` does not read it again.

    Args:
        data: the folder.
        name: of the source.
        slices: as for `list_volumes`.

    Raises:
        LabelAssembleError: files that are called masks of images are none.
    """
    listed = list_volumes(data, slices=slices)
    found = _patterns(data, listed, slices)
    if not found:
        return None
    chosen = found[0]
    drawn, paths = chosen.drawn(), chosen.paths()
    source = Proposal({"name": name})
    source.add("reader", "volumes", f"{len(paths)} cases, {len(drawn)} of them with a mask")
    source.add("root", data)
    source.add("images", chosen.images, "* is any part of a name")
    known = _described(data)
    values = _values(drawn)
    labels = _labels(values, known, source)
    source.add(
        "masks", {"files": chosen.masks, "labels": labels}, "the class of each value; 0 is none of them"
    )
    _add_table(source, data, chosen)
    split = any(case.split for case in chosen.found)
    if not split and "split_column" not in source.values:
        source.hints.append(
            "split: {val: 0.1, test: 0.2}    divides the cases, by patient where patients are known"
        )
    if "patient_column" not in source.values:
        source.hints.append(
            'the source needs patient_pattern: "(P[0-9]+)_" where a patient has several cases: its group is the id'
        )
        source.remarks.append(
            "nothing says which cases are of one patient, so each is taken for a patient of its own "
            "(`patient_pattern` finds the id in a path)"
        )
    of_same_cases = dict.fromkeys(one.images for one in found if one.drawn() == drawn)
    if len(of_same_cases) > 1:
        source.remarks.append(
            f"a case has several images, and a network sees one: {chosen.images} was chosen of "
            f"{', '.join(of_same_cases)}"
        )
    taken = {os.path.relpath(mask.partition("::")[0], data) for mask in drawn}
    spare = [path for path in listed.masks if path not in taken]
    if spare:
        source.remarks.append(
            f"{len(spare)} of the masks found belong to no image of {chosen.images} and are left out, such as "
            f"{spare[0]}: cases that lie in another way need a source of their own (init of their folder proposes it)"
        )
    source.section = _section(paths, known, source)
    return source


def _patterns(data: Path, listed: Listed, slices: bool) -> list[Patterns]:
    """Return the patterns that find images and what are masks of them; none where the folders may be classes.

    Raises:
        LabelAssembleError: the names leave no doubt that they are masks, and the files are none.
    """
    if not (listed.masks and listed.images):
        return []
    found = find_patterns(data, listed)
    if not found:
        return []
    reason = why_no_masks(found[0].pairs(), slices=slices)
    if slices and reason and (found[0].names_images() or found[0].file_names_mask()):
        raise LabelAssembleError(
            f"{data}: by their names {found[0].masks} are masks of {found[0].images}, but {reason}: store them as PNG "
            "with one channel, a whole number per class, or keep them elsewhere"
        )
    if reason or (slices and not (found[0].names_images() or found[0].names_masks())):
        return []
    return found


def propose_case_table(
    table: Path, columns: Mapping[str, Column], uses: Uses, root: Path, name: str
) -> Proposal | None:
    """Return the source of a table whose rows are volumes, or images with masks; None where it is no such table.

    Args:
        table: the file.
        columns: what it holds.
        uses: what they are for, as far as it was guessed.
        root: the folder that its paths start at.
        name: of the source.

    Raises:
        LabelAssembleError: the files of its column of masks are none.
    """

    def files(column: Column) -> list[str]:
        """Return the first cells that name what is there."""
        cells = [cell for cell in column.filled()[:_LOOKED_AT] if "\0" not in cell]
        return [cell for cell in cells if (root / cell.partition("::")[0]).exists()]

    mask = next((one for one in columns if plain(one) in _MASK_COLUMNS and files(columns[one])), None)
    volumes = [
        one for one in columns if one != mask and any(map(_names_volume, columns[one].filled()[:_LOOKED_AT]))
    ]
    image = uses.path if uses.path and uses.path != mask else next(iter(volumes), None)
    if image is None or (mask is None and image not in volumes):
        return None
    source = Proposal({"name": name})
    source.add("reader", "volumes")
    source.add("path", table)
    source.add("root", root, "the paths in the table start here")
    source.add("path_column", image, "the image of each case")
    if mask is not None:
        source.add("mask_column", mask, "blank where nothing is drawn")
        whole = sorted({str(root / cell) for cell in columns[mask].values if cell})
        reason = why_no_masks([("", path) for path in whole], slices=image not in volumes)
        if reason:
            raise LabelAssembleError(
                f"{table}, column '{mask}': {reason}; a mask has a whole number per class: leave the column out "
                "where it is none"
            )
        source.add(
            "masks",
            {"labels": _labels(_values(whole), {}, source)},
            "the class of each value; 0 is none of them",
        )
    if uses.patient is not None:
        source.add("patient_column", uses.patient, "cases of one patient stay on one side of a split")
    if uses.split is not None:
        source.add("split_column", uses.split)
    else:
        source.hints.append(
            "split: {val: 0.1, test: 0.2}    divides the cases, by patient where patients are known"
        )
    if mask in uses.classes:
        others = {one: column for one, column in columns.items() if one != mask}
        given = {"path": image, "patient": uses.patient or "", "split": uses.split or ""}
        uses = guess_uses(others, given)
    _add_classes(source, table, columns, uses)
    source.section = _section([str(root / cell) for cell in files(columns[image])], {}, source)
    return source


def _names_volume(cell: str) -> bool:
    return is_nifti_name(cell) or ".npz::" in cell


def _described(data: Path) -> Mapping[str, Any]:
    """Return the dataset.json of the Medical Segmentation Decathlon or nnU-Net, empty where there is none."""
    try:
        found = json.loads((data / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _values(masks: Sequence[str]) -> list[int]:
    """Return the values that masks have, in order; one that cannot be read is left to `assemble`."""

    def values(mask: str) -> list[int]:
        try:
            return list(mask_summary(mask).counts)
        except ImageError:
            return []

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return sorted({value for found in pool.map(values, masks) for value in found})


def _labels(values: Sequence[int], known: Mapping[str, Any], source: Proposal) -> dict[int, str]:
    """Return the class of each value: by dataset.json, else a name that stands for its own lack."""
    told: dict[int, str] = {}
    entries = known.get("labels")
    for one, other in entries.items() if isinstance(entries, Mapping) else ():
        pair = (one, other) if str(one).isdecimal() else (other, one)  # of the Decathlon, or of nnU-Net
        if str(pair[0]).isdecimal() and int(pair[0]) > 0 and _is_class(pair[1]):
            told[int(pair[0])] = str(pair[1])
    labels = {value: told.get(value, f"value {value}") for value in values}
    unnamed = [value for value in values if value not in told]
    if unnamed or not labels:
        source.remarks.append(
            f"nothing says what the values {', '.join(map(str, unnamed))} of the masks stand for: write the classes "
            "into `masks: labels`"
            if unnamed
            else "no mask shows anything: write the classes of the values into `masks: labels`"
        )
    return labels or told or {1: "value 1"}


def _is_class(name: object) -> bool:
    try:
        check_class_name(str(name))
    except ValueError:
        return False
    return isinstance(name, str)


def _add_table(source: Proposal, data: Path, chosen: Patterns) -> None:
    """Add the table that says more of the cases: one an archive or of all, where it has a row for each of them."""
    for path in (data / "{}.csv", *sorted(data.glob("*.csv"))):
        tables = list(dict.fromkeys(table_of(path, case) for case in chosen.found))
        if not all(table.is_file() for table in tables):
            continue
        try:
            columns, rows = read_columns(tables[0])
        except LabelAssembleError as error:
            source.remarks.append(f"{error}: the table is left out")
            continue
        keys = {key for case in chosen.found if table_of(path, case) == tables[0] for key in case.keys}
        named = next((name for name, column in columns.items() if keys and keys <= set(column.values)), None)
        stack = not keys and rows == len(chosen.found[0].paths)
        if named is None and not stack:
            continue
        uses = guess_uses(columns, {})
        source.add("path", path, "says more of each case" if keys else "a row per image, in their order")
        if named is not None:
            source.add("name_column", named, "the case of each row")
        if uses.patient is not None:
            source.add("patient_column", uses.patient, "cases of one patient stay on one side of a split")
        if uses.split is not None:
            source.add("split_column", uses.split)
        _add_classes(source, tables[0], columns, uses)
        return


def _add_classes(source: Proposal, table: Path, columns: Mapping[str, Column], uses: Uses) -> None:
    """Add the columns that are classes of whole cases, and say of those in words that they are not read."""
    if not uses.classes:
        return
    if uses.coding == "numbers":
        source.add("classes", list(uses.classes), "known for the case as a whole")
        return
    names = ", ".join(f"'{name}'" for name in uses.classes[:_SHOWN])
    words = ", ".join(
        dict.fromkeys(cell for name in uses.classes for cell in columns[name].filled()[:_SHOWN])
    )
    source.remarks.append(
        f"{table}: column {names} holds words ({words}) and is not read, for a case with a mask may have classes only "
        "in columns of 1, 0 or blank: write one for each and name them in `classes`"
    )


def _section(
    paths: Sequence[str], known: Mapping[str, Any], source: Proposal
) -> dict[str, tuple[object, str]]:
    """Return the keys of `volumes`, each with why."""
    some = [paths[index] for index in np.linspace(0, len(paths) - 1, min(len(paths), _LOOKED_AT), dtype=int)]
    grids = []
    for path in some:
        try:
            grids.append(read_grid(path))
        except ImageError as error:
            source.remarks.append(f"{error}")
            break
    if not grids:
        return {}
    dims = min(len(grid.shape) for grid in grids)
    if dims == 3 and all(grid.shape[2] == 1 for grid in grids):
        dims = 2
    if dims == 3:  # as a network sees them, and as `spacing` and `patch` count the axes
        grids = [grid.turned_to_ras() for grid in grids]
    shapes = np.array([grid.shape[:dims] for grid in grids])
    section: dict[str, tuple[object, str]] = {}
    spacing = np.median([grid.spacing()[:dims] for grid in grids], axis=0)
    if all(grid.affine is not None for grid in grids):
        section["spacing"] = (
            [round(float(edge), 3) for edge in spacing],
            "mm; the median of the files looked at",
        )
        shapes = np.array([grid.spacing()[:dims] for grid in grids]) * shapes / spacing
    window = _window(some[0], known)
    if window is not None:
        section["window"] = (window, "HU, soft tissue; lungs: [-1000, 400]")
    largest = 96 if dims == 3 else 256
    sizes = np.clip(np.round(np.median(shapes, axis=0) / _MULTIPLE) * _MULTIPLE, _MULTIPLE, largest)
    section["patch"] = (sizes.astype(int).tolist(), "voxels that the network sees at once")
    return section


def _window(path: str, known: Mapping[str, Any]) -> list[int] | None:
    """Return a window in HU for CT; None for what has no units."""
    channels = known.get("modality") or known.get("channel_names")
    if isinstance(channels, Mapping) and channels:
        return [-100, 240] if str(next(iter(channels.values()))).strip().upper() == "CT" else None
    try:
        values = read_volume(path).values
    except ImageError:
        return None
    return [-100, 240] if values.size and values.dtype.kind in "if" and values.min() <= _AIR else None
