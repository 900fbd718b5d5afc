"""What a run that learns from masks does in another way: its targets, its crops, its validation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console

from labelassemble.data import Assembly, Table
from labelassemble.data.mask_files import mask_summary
from labelassemble.data.states import NEGATIVE, UNKNOWN, LabelOrigin
from labelassemble.errors import LabelAssembleError
from labelassemble.training.data import TrainingData, VoxelCounts
from labelassemble.training.volume_validation import VolumeValidation
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.sampler import Sampler
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import VolumeStore, VolumeViews


def volume_data(assembly: Assembly) -> TrainingData:
    """Return the training cases of an assembly: what is drawn, and how many voxels.

    Raises:
        LabelAssembleError: no training case has a mask that shows a class of the table.
    """
    table = assembly.table
    train = np.flatnonzero(table.splits == "train")
    cases = table.select(train)
    targets = np.where(cases.labels == NEGATIVE, np.float32(0), np.float32(np.nan))
    positive, known = np.zeros((2, len(cases.classes)))
    for row in np.flatnonzero(cases.masks != ""):
        drawn = cases.drawn(int(row))
        summary = mask_summary(str(cases.masks[row]))
        voxels = float(np.prod(summary.grid.shape))
        there = cases.labels[row] == NEGATIVE
        there[list(drawn.values())] = True
        known += voxels * there
        for value, column in drawn.items():
            positive[column] += summary.counts.get(value, 0)
            if summary.counts.get(value):
                targets[row, column] = 1.0
            elif np.isnan(targets[row, column]):
                targets[row, column] = 0.0
    if not positive.any():
        raise LabelAssembleError(
            "no mask of the training cases shows any of the classes, so there is nothing to learn where they are: "
            "check `masks` of the sources, and their split columns"
        )
    voxels_found = VoxelCounts(positive, known)
    return TrainingData(
        table.classes,
        cases.paths.tolist(),
        targets,
        exclusions=assembly.voxel_exclusions.select(train),
        voxels=voxels_found,
        given_shares=voxels_found.shares(),
    )


def class_shares(data: TrainingData) -> Mapping[str, float]:
    """Return the share of its known voxels that each class fills, of those that are drawn somewhere."""
    shares = [] if data.voxels is None else data.voxels.shares()
    return {name: share for name, share in zip(data.classes, shares, strict=True) if share}


def volume_views(
    data: TrainingData,
    table: Table,
    options: VolumeOptions,
    sampler: Sampler,
    device: torch.device,
    console: Console,
) -> VolumeViews:
    """Open the training crops and say how they are made."""
    console.print(
        f"Crops of {' x '.join(map(str, options.patch))} voxels are cut by {options.readers()} threads",
        highlight=False,
        soft_wrap=True,
    )
    cases = table.select(table.splits == "train")
    return VolumeViews(cases, options, sampler, device, exclusions=data.exclusions or None)


def given_labels(table: Table) -> Table:
    """Return the cases with what is assumed as unknown: nothing is chosen or measured by it."""
    labels = np.where(table.assumed, np.int8(UNKNOWN), table.labels)
    origins = np.full_like(table.origins, LabelOrigin.GIVEN)
    return replace(table, labels=labels, origins=origins)


def volume_validation(table: Table, options: VolumeOptions, interest: Sequence[str]) -> VolumeValidation:
    """Return the validation cases, without what is assumed or uncertain."""
    cases = given_labels(table.select(table.splits == "val"))
    bad_files = BadFiles(
        len(cases),
        policy=options.bad_files,
        limit=options.bad_files_limit,
        key="volumes.bad_files_limit",
        noun="case",
    )
    return VolumeValidation(
        cases,
        options,
        [table.classes.index(name) for name in interest],
        bad_files,
        VolumeStore(cases, options, bad_files),
    )
