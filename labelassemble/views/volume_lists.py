"""The two views of a crop, by the built-in policy or by a list of kornia's augmentations each."""

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from labelassemble.views.crops import Crop, strong_crop, weak_crop
from labelassemble.views.seeded import image_seed
from labelassemble.views.volume_options import StrongVolumeOptions, VolumeOptions, WeakVolumeOptions

if TYPE_CHECKING:
    from labelassemble.views.kornia_views import KorniaList, VolumeLists

_GEOMETRY, _WEAK, _STRONG = (
    3,
    4,
    5,
)  # keep seeds apart from each other and from what else is drawn of a pass and row


class CropViews(NamedTuple):
    """A crop after the geometry of the weak list, and its views, float32 [*patch]; without a strong one, the weak."""

    crop: Crop
    weak: NDArray[np.float32]
    strong: NDArray[np.float32]


class ViewsOfCrops:
    """What makes both views of a crop.

    Geometry is of the crop: classes of the weak list that move voxels move image and mask before either view is made,
    so that both views and the targets show the same voxels. May be shared by threads.

    Args:
        options: of crops and augmentation.

    Raises:
        LabelAssembleError: a list names what kornia has not, or what it refuses.
    """

    def __init__(self, options: VolumeOptions) -> None:
        self._options: Final = options
        self._listed = isinstance(options.weak, tuple) or isinstance(options.strong, tuple)
        self._of_thread = threading.local()  # kornia's modules remember what they drew
        if self._listed:
            self._lists()

    def of(
        self, crop: Crop, rng: np.random.Generator, numbers: tuple[int, int, int], index: int, *, strong: bool
    ) -> CropViews:
        """Return the views of a crop.

        Args:
            crop: as it was drawn.
            rng: of the built-in policy.
            numbers: seed, pass and row, from which with `index` all comes that a list draws.
            index: which crop of the row it is.
            strong: whether there is to be a strong view.
        """
        options = self._options
        lists = self._lists() if self._listed else None
        if lists is not None and lists.geometry is not None:
            crop = moved_crop(crop, lists.geometry, _seed(numbers, _GEOMETRY, index))
        if isinstance(options.weak, WeakVolumeOptions):
            weak = weak_crop(crop.image, options.weak, rng)
        else:
            weak = _view(crop, lists.weak if lists else None, _seed(numbers, _WEAK, index))
        # drawn last: the weak view is the same with a strong one and without
        if not strong:
            return CropViews(crop, weak, weak)
        if isinstance(options.strong, StrongVolumeOptions):
            return CropViews(crop, weak, strong_crop(crop.image, options.strong, rng))
        seed = _seed(numbers, _STRONG, index)
        return CropViews(crop, weak, _view(crop, lists.strong if lists else None, seed))

    def _lists(self) -> "VolumeLists":
        """Return the lists of this thread."""
        from labelassemble.views.kornia_views import volume_lists  # and with it kornia, which takes a second

        if not hasattr(self._of_thread, "lists"):
            self._of_thread.lists = volume_lists(self._options)
        lists: VolumeLists = self._of_thread.lists
        return lists


def moved_crop(crop: Crop, geometry: "KorniaList", seed: int) -> Crop:
    """Return a crop whose image and mask were moved alike, with what then lies beyond the volume."""
    marked = np.zeros(crop.mask.shape, dtype=np.float32)  # 0 beyond the volume, else the mask's value + 1
    marked[crop.inside] = crop.mask[crop.inside].astype(np.float32) + 1
    moved = geometry.move(torch.from_numpy(np.ascontiguousarray(crop.image)), torch.from_numpy(marked), seed)
    found = moved.mask.numpy()
    mask = np.maximum(found - 1, 0).astype(crop.mask.dtype)
    return Crop(moved.image.numpy(), mask, crop.inside, found == 0)


def _view(crop: Crop, augmentations: "KorniaList | None", seed: int) -> NDArray[np.float32]:
    assert augmentations is not None
    image = torch.from_numpy(np.ascontiguousarray(crop.image))
    view: NDArray[np.float32] = augmentations.view(image[None], seed)[0].numpy()
    return view


def _seed(numbers: tuple[int, int, int], which: int, index: int) -> int:
    return image_seed(*numbers, which, index)
