"""Views by a list of kornia's augmentations, drawn for each image from a seed."""

from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from importlib import import_module
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.views.augmentation_list import AugmentationList
from labelassemble.views.kornia_classes import Augmentation, make_augmentation, reason_of
from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.seeded import Seeded
from labelassemble.views.volume_options import StrongVolumeOptions, VolumeOptions, WeakVolumeOptions


class Moved(NamedTuple):
    """An image and its mask after the same geometry.

    Attributes:
        image: float32 [*s].
        mask: as it came, [*s], by the nearest voxel; 0 where nothing was.
    """

    image: Tensor
    mask: Tensor


class KorniaList:
    """Augmentations that are applied to one image at a time, one after the other.

    What is drawn for an image comes from its seed alone: neither the order nor the batch, neither threads nor what else
    draws random numbers changes it. Not to be shared by threads, for kornia's modules remember what they drew.

    Args:
        parts: the augmentations, as `read_list` returns them.
    """

    def __init__(self, parts: Sequence[Augmentation]) -> None:
        self.parts: Final = tuple(parts)
        self._with_mask: list[nn.Module] = []

    def view(
        self,
        image: Tensor,  # [C, *spatial], float32 in 0..1
        seed: int,
    ) -> Tensor:
        """Return the image after all of the list, values cut off at 0 and 1 after each, float32 [C, *spatial]."""
        result, seeded = image[None], Seeded(seed)
        with seeded:  # which makes every operator slower, so only what draws is within
            drawn = [part.module.forward_parameters(result.shape) for part in self.parts]  # type: ignore[operator]
        for part, params in zip(self.parts, drawn, strict=True):
            with seeded if part.draws else nullcontext():
                result = part.module(result, params=params).clamp(0.0, 1.0)
        return result[0]

    def move(
        self,
        image: Tensor,  # [H, W], float32 in 0..1
        mask: Tensor,  # [H, W], float32 of whole numbers
        seed: int,
    ) -> Moved:
        """Return image and mask after the same geometry, the mask by the nearest voxel."""
        if not self._with_mask:
            self._with_mask = [_with_mask(part.module) for part in self.parts]
        moved, drawn = image[None, None], mask[None, None]
        with Seeded(seed):
            for module in self._with_mask:
                moved, drawn = module(moved, drawn)
        return Moved(moved[0, 0].clamp(0.0, 1.0), drawn[0, 0])


class VolumeLists(NamedTuple):
    """The lists of a section `volumes`; None where there is no list, or nothing of that kind in it.

    Attributes:
        geometry: what of the weak list moves voxels: of both views and of the mask.
        weak: what of the weak list changes values.
        strong: the strong list.
    """

    geometry: KorniaList | None
    weak: KorniaList | None
    strong: KorniaList | None


def view_lists(options: ViewOptions) -> tuple[KorniaList | None, KorniaList | None]:
    """Return the weak and the strong list of images; None where the built-in policy makes the view.

    Raises:
        LabelAssembleError: what `read_list` raises.
    """
    shape = (options.channels, options.size, options.size)
    weak, strong = options.weak, options.strong
    return (
        None if isinstance(weak, WeakOptions) else read_list(weak, key="views.weak", shape=shape),
        None if isinstance(strong, StrongOptions) else read_list(strong, key="views.strong", shape=shape),
    )


def volume_lists(options: VolumeOptions) -> VolumeLists:
    """Return the lists of volumes and slices with masks.

    Raises:
        LabelAssembleError: what `read_list` raises; or a class moves voxels where the mask or the weak view cannot
            follow.
    """
    shape = (1, *options.patch)
    geometry = weak = strong = None
    if not isinstance(options.weak, WeakVolumeOptions):
        both = read_list(options.weak, key="volumes.weak", shape=shape)
        moving = [part for part in both.parts if _moves(part.module)]
        if moving and options.dims == 3:
            raise LabelAssembleError(
                f"volumes.weak: {moving[0].name} moves voxels, and kornia moves no masks of three axes: in "
                "volumes take the classes that change values, and volumes.flip for mirroring"
            )
        geometry = KorniaList(moving)
        _check_nearest(geometry, options.patch)
        weak = KorniaList([part for part in both.parts if not _moves(part.module)])
    if not isinstance(options.strong, StrongVolumeOptions):
        strong = read_list(options.strong, key="volumes.strong", shape=shape)
        for part in strong.parts:
            if _moves(part.module):
                raise LabelAssembleError(
                    f"volumes.strong: {part.name} moves voxels, and the strong view must show the voxels "
                    "of the weak one: in volumes.weak it moves image, mask and both views alike"
                )
    return VolumeLists(geometry if geometry and geometry.parts else None, weak, strong)


def read_list(entries: AugmentationList, *, key: str, shape: Sequence[int]) -> KorniaList:
    """Return a list of a configuration, each class tried once.

    Args:
        entries: the list.
        key: where it stands, such as "views.strong".
        shape: of an image, [C, *spatial].

    Raises:
        LabelAssembleError: kornia is missing, has no such class or argument, or refuses a value; names the key.
    """
    parts = []
    for index, entry in enumerate(entries):
        for name, arguments in entry.items():
            parts.append(make_augmentation(name, arguments, f"{key}.{index}", tuple(shape)))
    return KorniaList(parts)


def _with_mask(module: nn.Module) -> nn.Module:
    """Return an augmentation that takes an image and its mask, the mask on the same grid by the nearest voxel."""
    constants = import_module("kornia.constants")
    grid = getattr(module, "flags", {}).get("align_corners")
    mask = {constants.DataKey.MASK: {"resample": constants.Resample.NEAREST, "align_corners": grid}}
    sequential: nn.Module = import_module("kornia.augmentation").AugmentationSequential(
        module, data_keys=["input", "mask"], extra_args=mask
    )
    return sequential


def _moves(module: nn.Module) -> bool:
    """Return whether an augmentation moves voxels, rather than only changing their values."""
    kornia = import_module("kornia.augmentation")
    return not isinstance(module, (kornia.IntensityAugmentationBase2D, kornia.IntensityAugmentationBase3D))


def _check_nearest(geometry: KorniaList, patch: Sequence[int]) -> None:
    """Raise where a class gives a mask values that it did not have."""
    for part in geometry.parts:
        always = deepcopy(part)
        always.module.p = 1.0  # type: ignore[assignment]
        mask = torch.full(tuple(patch), 5.0)
        mask[patch[0] // 3 : patch[0] // 2, patch[1] // 3 : patch[1] // 2] = 7.0
        try:
            moved = [KorniaList([always]).move(torch.zeros_like(mask), mask, seed).mask for seed in range(8)]
        except Exception as error:
            raise LabelAssembleError(
                f"volumes.weak: {part.name} moves voxels, and kornia cannot move a mask by it "
                f"({reason_of(error)})"
            ) from None
        found = torch.cat(moved)
        odd = found[~torch.isin(found, torch.tensor([0.0, 5.0, 7.0]))]
        if len(odd):
            raise LabelAssembleError(
                f"volumes.weak: {part.name} gives a mask of 5 and 7 the value {float(odd[0]):g}: with "
                "these arguments a mask does not keep its values, with 0 where nothing was"
            )
