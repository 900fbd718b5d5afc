"""Where the voxels of a volume lie, and whether those of a mask lie in the same places."""

from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.errors import ImageError

_SIDES: Final = ("LR", "PA", "IS")
_SAME_SPACING: Final = 0.01  # relative
_SAME_DIRECTION: Final = 0.01  # of a unit vector
_SAME_PLACE: Final = 0.1  # voxels
_DIGITS: Final = 6  # of a direction's parts: what differs by less is as large

Value = TypeVar("Value", bound=np.generic)


class Grid(NamedTuple):
    """The voxels of a volume.

    Attributes:
        shape: voxels along each axis.
        affine: from voxel indices to millimetres (RAS), float64 [4, 4]; None where nobody says.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64] | None

    def spacing(self) -> NDArray[np.float64]:
        """Return the edges of a voxel in mm, float64 [3]; 1 each where nobody says."""
        return np.ones(3) if self.affine is None else np.linalg.norm(self.affine[:3, :3], axis=0)

    def directions(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Return along which axis of the body each axis runs (0 left and right, 1 back and front, 2 foot and head).

        And whether it runs towards the first of the two. No two axes run along the same one, however oblique they are:
        the one that is nearest to an axis of the body takes it first, as in nibabel's io_orientation.
        """
        if self.affine is None:
            return (0, 1, 2), (False, False, False)
        first, _, second = np.linalg.svd(self.affine[:3, :3] / self.spacing())
        turn = np.round(first @ second, _DIGITS)  # the nearest rotation, perhaps mirrored
        axes, free = [0, 1, 2], np.ones(3, dtype=np.bool_)
        for axis in np.argsort(-np.abs(turn).max(axis=0), kind="stable").tolist():
            axes[axis] = int(np.where(free, np.abs(turn[:, axis]), -1.0).argmax())
            free[axes[axis]] = False
        return tuple(axes), tuple(bool(turn[row, axis] < 0) for axis, row in enumerate(axes))

    def sides(self) -> str:
        """Return towards which side of the body each axis runs: "RAS", "LPS", ..."""
        if self.affine is None:
            return ""
        return "".join(_SIDES[row][int(not back)] for row, back in zip(*self.directions(), strict=True))

    def turned_to_ras(self) -> "Grid":
        """Return the grid of the function `turned_to_ras`; of two axes, or where nobody says, the grid itself."""
        if self.affine is None or len(self.shape) != 3:
            return self
        back = np.zeros((4, 4))  # from the new voxels to the stored ones
        back[3, 3] = 1.0
        axes, reversed_ = self.directions()
        for axis, (side, reverse) in enumerate(zip(axes, reversed_, strict=True)):
            back[axis, side] = -1.0 if reverse else 1.0
            back[axis, 3] = self.shape[axis] - 1 if reverse else 0.0
        return Grid(tuple(self.shape[axis] for axis in np.argsort(axes)), self.affine @ back)


def turned_to_ras(
    values: NDArray[Value], affine: NDArray[np.float64]
) -> tuple[NDArray[Value], NDArray[np.float64]]:
    """Return a volume [*s] whose axes run to the right, front and top as nearly as they can, and its affine.

    Args:
        values: with three axes.
        affine: where they lie, float64 [4, 4].
    """
    stored = Grid(values.shape, affine)
    axes, reversed_ = stored.directions()
    mirrored = values[tuple(slice(None, None, -1 if reverse else 1) for reverse in reversed_)]
    turned = stored.turned_to_ras().affine
    assert turned is not None  # as that of what was turned
    return mirrored.transpose(np.argsort(axes)), turned


def turned_back(values: NDArray[Value], stored: Grid) -> NDArray[Value]:
    """Return a volume, or several [C, *s], that `turned_to_ras` made of one on the voxels of `stored`, as it was."""
    axes, reversed_ = stored.directions()
    ahead = values.ndim - 3
    turned = values.transpose(*range(ahead), *(ahead + axis for axis in axes))
    mirror = tuple(slice(None, None, -1 if reverse else 1) for reverse in reversed_)
    return turned[(slice(None),) * ahead + mirror]


def check_forms(name: str, sform: NDArray[np.float64], qform: NDArray[np.float64]) -> None:
    """Raise where the two forms of a NIfTI header give the voxels other sizes, or turn the axes to other sides.

    Nobody knows which of them is right then. A turn that leaves the axes their sides, or another origin, changes
    nothing of what a network sees.

    Args:
        name: of the file.
        sform: from voxel indices to millimetres, float64 [4, 4].
        qform: likewise.

    Raises:
        ImageError: They contradict each other.
    """
    ours, theirs = Grid((), sform), Grid((), qform)
    sizes, others = ours.spacing(), theirs.spacing()
    end = ": set the wrong one's code to 0, or write both anew"
    if (np.abs(sizes - others) > _SAME_SPACING * others).any():
        raise ImageError(
            name,
            f"its sform and its qform contradict each other, voxels of {_numbers(sizes)} mm and of "
            f"{_numbers(others)} mm{end}",
        )
    turned = np.abs(sform[:3, :3] / sizes - qform[:3, :3] / others).max()
    if turned > _SAME_DIRECTION and ours.sides() != theirs.sides():
        raise ImageError(
            name,
            f"its sform and its qform contradict each other, axes to {ours.sides()} and to {theirs.sides()}{end}",
        )


def check_same_grid(mask: str, drawn: Grid, image: str, shown: Grid) -> None:
    """Raise unless a mask has the shape of its image and its voxels lie where those of the image lie.

    Where one of the two files does not say where its voxels lie, the shapes alone are compared.

    Args:
        mask: what errors call the mask.
        drawn: its voxels.
        image: what errors call the image.
        shown: its voxels.

    Raises:
        ImageError: They have another shape, spacing or orientation, or lie elsewhere: by more than a tenth of a voxel
            at some corner.
    """
    if drawn.shape != shown.shape:
        raise ImageError(
            mask,
            f"a mask must have the shape of its image, {list(shown.shape)} ({image}), got {list(drawn.shape)}",
        )
    if drawn.affine is None or shown.affine is None:
        return
    ours, theirs = drawn.spacing(), shown.spacing()
    if (np.abs(ours - theirs) > _SAME_SPACING * theirs).any():
        raise ImageError(
            mask,
            f"a mask must have the spacing of its image, {_numbers(theirs)} mm ({image}), got {_numbers(ours)} mm",
        )
    turned = np.abs(drawn.affine[:3, :3] / ours - shown.affine[:3, :3] / theirs).max()
    if turned > _SAME_DIRECTION:
        raise ImageError(
            mask,
            f"a mask must have the orientation of its image, {shown.sides()} ({image}), got {drawn.sides()}"
            + (" turned by some degrees" if drawn.sides() == shown.sides() else ""),
        )
    corners = np.array(np.meshgrid(*([0, size - 1] for size in (*shown.shape, 1)[:3]))).reshape(3, -1)
    apart = (drawn.affine - shown.affine) @ np.vstack([corners, np.ones(corners.shape[1])])
    distance = float(np.linalg.norm(apart[:3], axis=0).max())
    if distance > _SAME_PLACE * theirs.min():
        raise ImageError(
            mask, f"a mask must lie where its image lies ({image}), got one shifted by {distance:.3g} mm"
        )


def _numbers(values: NDArray[np.float64]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
