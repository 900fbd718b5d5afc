"""The options of volumes and slices with masks: the grid, the intensities, the crops, and how the two views differ."""

import os
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labelassemble.views.augmentation_list import FORM, LIST, OPTIONS, AugmentationList
from labelassemble.views.options import Probability, Strength

Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class WeakVolumeOptions(BaseModel):
    """The weak view of a crop: its intensities nearly as they are.

    Attributes:
        noise: standard deviation of additive Gaussian noise, in units of the value range 0..1.
        blur: largest standard deviation of a Gaussian blur, in voxels; drawn uniformly from [0, blur].
        brightness: added to all values, drawn uniformly from [-brightness, brightness].
        contrast: factor about the crop's mean, drawn uniformly from [1 - contrast, 1 + contrast].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise: Strength = 0.01
    blur: Strength = 0.0
    brightness: Probability = 0.0
    contrast: Probability = 0.0


class StrongVolumeOptions(BaseModel):
    """The strong view of a crop: the same voxels as the weak view shows, their intensities changed more, parts lost.

    Attributes:
        noise: standard deviation of additive Gaussian noise, in units of the value range 0..1.
        blur: largest standard deviation of a Gaussian blur, in voxels; drawn uniformly from [0, blur].
        brightness: added to all values, drawn uniformly from [-brightness, brightness].
        contrast: factor about the crop's mean, drawn uniformly from [1 - contrast, 1 + contrast].
        cutouts: number of boxes whose values are replaced by one value each.
        cutout_size: smallest and largest edge of such a box, as a share of the crop's edge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    noise: Strength = 0.05
    blur: Strength = 1.0
    brightness: Probability = 0.1
    contrast: Probability = 0.25
    cutouts: Annotated[int, Field(ge=0, le=64)] = 2
    cutout_size: tuple[Probability, Probability] = (0.1, 0.3)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.cutout_size[0] > self.cutout_size[1]:
            raise ValueError(f"cutout_size must go from small to large, got {list(self.cutout_size)}")
        return self


WeakVolume: TypeAlias = Annotated[
    Annotated[WeakVolumeOptions, OPTIONS] | Annotated[AugmentationList, LIST], FORM
]
StrongVolume: TypeAlias = Annotated[
    Annotated[StrongVolumeOptions, OPTIONS] | Annotated[AugmentationList, LIST], FORM
]


class VolumeOptions(BaseModel):
    """The `volumes` part of a configuration; with it, a run learns from masks and answers every voxel.

    Attributes:
        spacing: edges of a voxel in mm, along right, anterior and superior (3-D) or rows and columns (2-D), to which
            every volume is resampled; None for the voxels of the files.
        window: intensities that become 0 and 1, in the units of the files (HU for CT); what lies outside is cut off.
            None for `percentiles`.
        percentiles: percentiles of each volume's own intensities that become 0 and 1, where there is no `window` (MR).
        patch: voxels along each axis of what the network sees at once: 3 numbers for volumes, 2 for slices.
        crops_per_case: crops of a case in a batch.
        positive_share: share of the crops that have a drawn voxel at their centre, or as near to it as the border of
            the volume allows; the others lie anywhere.
        overlap: share of a patch's edge by which neighbouring windows overlap where a whole volume is answered.
        flip: probability that a crop is mirrored along an axis, for each axis; 0 forbids it. Both views share it.
        weak: intensities of the weak view: the options below, or a list of classes of kornia.augmentation. Classes of
            that list that move voxels (in slices) come first, and move image, mask and both views alike.
        strong: intensities of the strong view, likewise; a class that moves voxels is refused there.
        cache_mb: resampled volumes and masks are kept in memory up to this many MiB; 0 reads them each time.
        threads: threads that read volumes; None for as many as there are processors. The crops do not depend on it.
        bad_files: what a volume that is missing or damaged does: "skip" leaves it out of its batch and names it, "stop"
            ends the run.
        bad_files_limit: with "skip", the largest share of bad files, above which the run stops with a list of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    spacing: tuple[Positive, ...] | None = None
    window: tuple[Finite, Finite] | None = None
    percentiles: tuple[
        Annotated[float, Field(ge=0.0, le=100.0)], Annotated[float, Field(ge=0.0, le=100.0)]
    ] = (0.5, 99.5)
    patch: tuple[Annotated[int, Field(ge=8, le=1024)], ...] = (96, 96, 96)
    crops_per_case: Annotated[int, Field(ge=1, le=64)] = 1
    positive_share: Probability = 0.5
    overlap: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    flip: Probability = 0.5
    weak: WeakVolume = WeakVolumeOptions()
    strong: StrongVolume = StrongVolumeOptions()
    cache_mb: Annotated[int, Field(ge=0)] = 1024
    threads: Annotated[int, Field(ge=1)] | None = None
    bad_files: Literal["skip", "stop"] = "skip"
    bad_files_limit: Probability = 0.01

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if len(self.patch) not in (2, 3):
            raise ValueError(
                f"patch must have 2 numbers (slices) or 3 (volumes), got {len(self.patch)}: {list(self.patch)}"
            )
        if self.spacing is not None and len(self.spacing) != len(self.patch):
            raise ValueError(
                f"spacing must have as many numbers as patch ({len(self.patch)}), got {list(self.spacing)}"
            )
        for name, value in (("window", self.window), ("percentiles", self.percentiles)):
            if value is not None and not value[0] < value[1]:
                raise ValueError(f"{name} must go from low to high, got {list(value)}")
        return self

    @property
    def dims(self) -> int:
        """The dimensions of the task: 3 for volumes, 2 for slices."""
        return len(self.patch)

    def readers(self) -> int:
        """Return the number of threads that read volumes."""
        return self.threads or len(os.sched_getaffinity(0))
