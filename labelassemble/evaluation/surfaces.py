"""How well the surfaces of two masks agree, in memory that grows with the surfaces and not with the volume."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree


def surface_dice(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    tolerance: float,
    spacing: tuple[float, ...] | None,
) -> float:
    """Return the share of both surfaces that lies within the tolerance of the other one.

    (|S1 within t of S2| + |S2 within t of S1|) / (|S1| + |S2|), S the voxels of a mask that share a face with one
    outside (Nikolov et al., arXiv 1809.04430, counted in voxels): the number of MONAI's `compute_surface_dice`, which
    looks for the nearest voxel however far it is.

    Args:
        first: a mask that is not empty, [*s]; beyond the array is outside.
        second: another one, [*s].
        tolerance: mm; voxels where the spacing is not known.
        spacing: of the voxels in mm, or None.
    """
    places = [_surface(mask).astype(np.float64) for mask in (first, second)]
    if spacing is not None:
        places = [of * np.asarray(spacing, np.float64) for of in places]
    near = sum(_count_near(of, to, tolerance) for of, to in ((places[0], places[1]), (places[1], places[0])))
    return float(np.float32(near) / np.float32(len(places[0]) + len(places[1])))


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the voxels of a mask that have a neighbour outside, [n, dimensions]."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        ahead, behind = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),)
        inside[ahead] &= mask[behind]
        inside[behind] &= mask[ahead]
        for end in (0, -1):  # beyond the array is outside
            inside[(slice(None),) * axis + (end,)] = False
    inside ^= mask
    return np.argwhere(inside)


def _count_near(of: NDArray[np.float64], to: NDArray[np.float64], tolerance: float) -> int:
    """Return how many points have one of `to` within the tolerance, compared in float32 as MONAI does."""
    # A little further than the tolerance, so that what rounds to it is found.
    distances, _ = cKDTree(to, leafsize=32).query(of, distance_upper_bound=tolerance * (1 + 1e-6))
    return int(np.count_nonzero(distances.astype(np.float32) <= np.float32(tolerance)))
