"""Crops of a volume, and the two views of a crop: the same voxels, other intensities."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from labelassemble.views.volume_options import StrongVolumeOptions, VolumeOptions, WeakVolumeOptions

_PLACES: Final = 1 << 20


class Case(NamedTuple):
    """A volume as crops are drawn from it.

    Attributes:
        image: float32 [*s] in 0..1.
        mask: uint8 or uint16 [*s]; 0 = nothing drawn.
        places: where each value of the mask stands, flat indices, int64 [n]; of a value with more than 2^20 voxels,
            evenly spaced ones.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.integer[Any]]
    places: Mapping[int, NDArray[np.int64]]

    @classmethod
    def of(cls, image: NDArray[np.float32], mask: NDArray[np.integer[Any]]) -> Self:
        """Return a volume and its mask with the places of the mask's values."""
        drawn = np.flatnonzero(mask)
        values = mask.reshape(-1)[drawn]
        places = {int(value): drawn[values == value] for value in np.unique(values)}
        return cls(
            image, mask, {value: every[:: -(-len(every) // _PLACES)] for value, every in places.items()}
        )

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.image.nbytes + self.mask.nbytes + sum(every.nbytes for every in self.places.values())


class Crop(NamedTuple):
    """A part of a volume.

    Attributes:
        image: float32 [*patch] in 0..1; 0 beyond the volume.
        mask: [*patch]; 0 = nothing drawn.
        inside: the box of the patch that lies within the volume: what is beyond has no label.
        beyond: bool [*patch], where nothing of the volume came to lie when the crop was moved; None if it was not.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.integer[Any]]
    inside: tuple[slice, ...]
    beyond: NDArray[np.bool_] | None = None


def draw_crop(case: Case, drawn: Sequence[int], options: VolumeOptions, rng: np.random.Generator) -> Crop:
    """Return a crop of `options.patch` voxels, perhaps mirrored.

    With the probability `positive_share` its centre is a voxel of one of the `drawn` values that the mask has, each
    value as likely as the other whatever its volume; if it has none, or else, the crop lies anywhere. Where the volume
    is smaller than the patch it lies in the middle of zeros.

    Args:
        case: the volume.
        drawn: values of the mask that stand for a class.
        options: patch, share and mirroring.
        rng: what the crop is drawn with; always takes the same numbers from it, whatever the mask.
    """
    dims = len(options.patch)
    u = rng.random(3 + 2 * dims)
    centre = _drawn_voxel(case, drawn, u[1], u[2]) if u[0] < options.positive_share else None
    cut: list[slice] = []
    pad: list[tuple[int, int]] = []
    for axis, (size, edge) in enumerate(zip(case.image.shape, options.patch, strict=True)):
        room = size - edge
        if room <= 0:
            before = -room // 2
            cut.append(slice(None))
            pad.append((before, -room - before))
            continue
        start = (
            int(u[3 + axis] * (room + 1)) if centre is None else min(max(centre[axis] - edge // 2, 0), room)
        )
        cut.append(slice(start, start + edge))
        pad.append((0, 0))
    flipped = [value < options.flip for value in u[3 + dims :]]
    mirrored = tuple(slice(None, None, -1 if flip else 1) for flip in flipped)
    image, mask = (np.pad(array[tuple(cut)], pad)[mirrored] for array in (case.image, case.mask))
    margins = (
        (after, before) if flip else (before, after)
        for (before, after), flip in zip(pad, flipped, strict=True)
    )
    inside = tuple(
        slice(before, edge - after) for (before, after), edge in zip(margins, options.patch, strict=True)
    )
    return Crop(image, mask, inside)


def _drawn_voxel(case: Case, drawn: Sequence[int], which: float, where: float) -> tuple[int, ...] | None:
    """Return a voxel of the `which`-th of the drawn values that the mask has, by numbers in 0..1; None without any."""
    present = [value for value in drawn if value in case.places]
    if not present:
        return None
    places = case.places[present[int(which * len(present))]]
    place = places[int(where * len(places))]
    return tuple(int(index) for index in np.unravel_index(place, case.mask.shape))


def weak_crop(
    image: NDArray[np.float32], options: WeakVolumeOptions, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the weak view of a crop, float32 [*patch]."""
    return _noisy(image, options, rng)


def strong_crop(
    image: NDArray[np.float32], options: StrongVolumeOptions, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the strong view of a crop, float32 [*patch]: noise, blur, other intensities, and boxes that are lost."""
    result = _noisy(image, options, rng)
    dims = image.ndim
    low, high = options.cutout_size
    for _ in range(options.cutouts):
        u = rng.random(2 * dims + 1)
        edges = [
            max(1, round((low + (high - low) * u[axis]) * size)) for axis, size in enumerate(image.shape)
        ]
        starts = [int(u[dims + axis] * (size - edges[axis] + 1)) for axis, size in enumerate(image.shape)]
        box = tuple(slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
        result[box] = u[-1]
    return result


def _noisy(
    image: NDArray[np.float32],
    options: WeakVolumeOptions | StrongVolumeOptions,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return a crop blurred, with other contrast and brightness, and with noise, in this order; a new array."""
    u = rng.random(3)
    sigma, shift = options.blur * u[0], options.brightness * (2 * u[1] - 1)
    factor = 1 + options.contrast * (2 * u[2] - 1)
    result = gaussian_filter(image, sigma) if sigma > 0.05 else image.copy()
    mean = result.mean(dtype=np.float64)
    result *= np.float32(factor)
    result += np.float32(mean * (1 - factor) + shift)
    if options.noise:
        result += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(options.noise)
    return result
