"""Cases with masks, read and resized once for all jobs: slices to the patch, volumes as they are."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from labelassemble._files import atomic_path, make_folder
from labelassemble.data import Table
from labelassemble.data.states import NEGATIVE, POSITIVE
from labelassemble.data.text import TextArray, constant_text, text_array
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.bootstrap import patient_indices
from labelassemble.experiments.dataset import Dataset, dataset_table
from labelassemble.experiments.experiment import DatasetOptions
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import load_case, load_mask

Voxels = NDArray[np.uint8]


def open_cases(
    name: str, options: DatasetOptions, *, data: Path, volumes: VolumeOptions, cache: Path
) -> Dataset:
    """Return a dataset of cases whose masks draw every class.

    Intensities are scaled as `volumes` says and kept as 0 to 255. A slice is averaged to the patch's size, its mask
    taken at the nearest pixels; a volume keeps its voxels. In the masks 1 is the first class. All patients are in
    "train": folds divide them.

    Args:
        name: the dataset's key.
        options: its options.
        data: the folder at which relative paths start.
        volumes: patch, grid and intensities.
        cache: folder for what is kept.

    Raises:
        NotAtHand: no source of it can be read, or not all that belong together.
        LabelAssembleError: a case whose mask does not draw every class, or that is damaged.
    """
    table = dataset_table(name, options, data)
    groups = [group or path for group, path in zip(table.groups.tolist(), table.paths.tolist(), strict=True)]
    table = replace(table, groups=text_array(groups))
    table = table.select(_evenly(table, options.per_patient))
    _check_drawn(name, table)
    said = volumes.model_dump_json(include={"patch", "spacing", "window", "percentiles"})
    cases = [table.paths.tolist(), table.masks.tolist(), table.sources.tolist()]
    # What a mask's values stand for is in the voxels that are kept: 1 is the first class.
    key = hashlib.sha256(json.dumps([cases, table.classes, _named(table), said]).encode())
    file = cache.resolve() / f"{name}-{key.hexdigest()[:10]}.npz"
    if not file.exists():
        read = [_resized(table, row, volumes) for row in range(len(table))]
        _save(file, [image for image, _ in read], [mask for _, mask in read], volumes.dims)
    masks = _stored(file, len(table), "mask", volumes.dims)
    found = np.array([[(mask == value + 1).any() for value in range(len(table.classes))] for mask in masks])
    digest = hashlib.sha256(file.with_suffix(".sha256").read_bytes())
    digest.update("\n".join([*table.groups.tolist(), *table.classes]).encode())
    named = {value + 1: of for value, of in enumerate(table.classes)}
    table = replace(
        table,
        paths=_paths(file, len(table), "image", volumes.dims),
        masks=_paths(file, len(table), "mask", volumes.dims),
        mask_values={str(source): named for source in np.unique(table.sources)},
        splits=constant_text("train", len(table)),
        labels=np.where(found, POSITIVE, NEGATIVE).astype(np.int8),
        origins=np.zeros_like(table.origins),
    )
    return Dataset(table, file, digest.hexdigest()[:16])


def case_images(dataset: Dataset, rows: NDArray[np.intp]) -> list[Voxels]:
    """Return the images of some cases, uint8 [*s] each."""
    dims = 2 if "::images::" in str(dataset.table.paths[0]) else 3
    stored = _stored(dataset.file, len(dataset.table), "image", dims, rows.tolist())
    return list(stored)


def class_values(dataset: Dataset) -> dict[str, int]:
    """Return the value that each class of the masks has, also of those that take no part."""
    named = next(iter(dataset.table.mask_values.values()))
    return {name: value for value, name in named.items()}


def case_masks(dataset: Dataset, names: Sequence[str]) -> TextArray:
    """Return where masks lie that draw these classes alone, text [N]; made at the first call, beside the dataset."""
    table, values = dataset.table, class_values(dataset)
    if set(names) == set(values):
        return table.masks
    kept = sorted(values[name] for name in names)
    file = dataset.file.with_name(f"{dataset.file.stem}-{'-'.join(map(str, kept))}.npz")
    dims = 2 if "::masks::" in str(table.masks[0]) else 3
    if not file.exists():
        # The paths are of the chosen cases; the file is of all that the dataset has.
        with np.load(dataset.file, allow_pickle=False) as archive:
            count = len(archive["masks"]) if dims == 2 else len(archive.files) // 2
        masks = _stored(dataset.file, count, "mask", dims)
        _save(file, [], [np.where(np.isin(mask, kept), mask, np.uint8(0)) for mask in masks], dims)
    return text_array(
        [path.replace(str(dataset.file), str(file), 1) for path in table.masks.astype(object).tolist()]
    )


def _evenly(table: Table, most: int | None) -> NDArray[np.intp]:
    """Return the rows that are kept, at most so many of a patient, from its first case to its last."""
    if most is None:
        return np.arange(len(table))
    code = patient_indices(table.groups, len(table))
    kept = []
    for patient in range(int(code.max()) + 1):
        rows = np.flatnonzero(code == patient)
        places = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.intp)
        kept.append(rows[places])
    return np.sort(np.concatenate(kept))


def _check_drawn(name: str, table: Table) -> None:
    every = set(range(len(table.classes)))
    for row in range(len(table)):
        lacking = sorted(every - set(table.drawn(row).values()))
        if lacking:
            raise LabelAssembleError(
                f"dataset '{name}': the masks of an experiment must draw every class, and nothing draws "
                f"'{table.classes[lacking[0]]}' in {table.paths[row]}"
            )


def _named(table: Table) -> list[tuple[str, list[tuple[int, str]]]]:
    """Return what the values of masks stand for, by source; with every class drawn, a row's are those of its source."""
    return sorted((source, sorted(of.items())) for source, of in table.mask_values.items())


def _resized(table: Table, row: int, volumes: VolumeOptions) -> tuple[Voxels, Voxels]:
    """Return image and mask of a case."""
    volume = load_case(str(table.paths[row]), volumes)
    mask = load_mask(str(table.masks[row]), volume)
    classes = np.zeros(mask.shape, np.uint8)
    for value, column in table.drawn(row).items():
        classes[mask == value] = column + 1
    image = volume.image
    if volumes.dims == 2:
        image = functional.interpolate(_tensor(image), size=volumes.patch, mode="area").numpy()[0, 0]
        classes = (
            functional.interpolate(_tensor(classes), size=volumes.patch, mode="nearest-exact")
            .numpy()[0, 0]
            .astype(np.uint8)
        )
    return np.round(image * 255).clip(0, 255).astype(np.uint8), classes


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()[None, None]


def _paths(file: Path, count: int, what: str, dims: int) -> TextArray:
    """Return the members of `file`, text [count]: entries of a stack of slices, or an array per volume."""
    member = f"{what}s::" if dims == 2 else what
    return text_array([f"{file}::{member}{row}" for row in range(count)])


def _stored(
    file: Path, count: int, what: str, dims: int, rows: Sequence[int] | None = None
) -> Sequence[Voxels]:
    chosen = range(count) if rows is None else rows
    with np.load(file, allow_pickle=False) as archive:
        if dims == 2:
            stack = archive[f"{what}s"]
            return [stack[row] for row in chosen]
        return [archive[f"{what}{row}"] for row in chosen]


def _save(file: Path, images: Sequence[Voxels], masks: Sequence[Voxels], dims: int) -> None:
    """Write images and masks, and the hash of their voxels beside them, whole or not at all."""
    make_folder(file.parent)
    digest = hashlib.sha256()
    for voxels in (*images, *masks):
        digest.update(np.ascontiguousarray(voxels).data)
    file.with_suffix(".sha256").write_text(digest.hexdigest())
    members: dict[str, Voxels] = {}
    for what, cases in (("image", images), ("mask", masks)):
        if cases and dims == 2:
            members[f"{what}s"] = np.stack(cases)
        members |= {f"{what}{row}": case for row, case in enumerate(cases)} if dims == 3 else {}
    with atomic_path(file) as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, **members)  # type: ignore[arg-type]
