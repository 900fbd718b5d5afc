"""The weak and the strong view of images, by the built-in policy or by a list of kornia's augmentations each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from labelassemble.views.augment import strong_view, weak_view
from labelassemble.views.noise import NoiseBank
from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.params import AugmentationParams, draw_params
from labelassemble.views.seeded import image_seed

if TYPE_CHECKING:
    from labelassemble.views.kornia_views import KorniaList

_WEAK, _STRONG = (
    3,
    4,
)  # keep the seeds of lists apart from each other and from what else is drawn of a pass and row


class ViewPair(NamedTuple):
    """Two views of B images.

    Attributes:
        weak: float32 [B, C, size, size] in 0..1.
        strong: likewise; None where it was not asked for.
        params: the random numbers of the built-in policy.
    """

    weak: Tensor
    strong: Tensor | None
    params: AugmentationParams


class ViewMaker:
    """What makes both views of images; everything random comes from (seed, pass over the table, row).

    Args:
        options: size, channels and augmentation.
        seed: of the views.
        device: where the images are.

    Raises:
        LabelAssembleError: a list names what kornia has not, or what it refuses.
    """

    def __init__(self, options: ViewOptions, seed: int, device: torch.device | str = "cpu") -> None:
        self._options: Final = options
        self._seed: Final = seed
        self._bank = NoiseBank(seed, options.channels * options.size**2, device)
        self._lists: tuple[KorniaList | None, KorniaList | None] = (None, None)
        if isinstance(options.weak, tuple) or isinstance(options.strong, tuple):
            from labelassemble.views.kornia_views import (
                view_lists,
            )  # and with it kornia, which takes a second

            self._lists = view_lists(options)

    def pair(
        self,
        images: Tensor,  # [B, C, size, size], float32 in 0..1
        *,
        passes: Sequence[int],
        rows: Sequence[int],
        strong: bool,
    ) -> ViewPair:
        """Return both views of images that are `rows` of a table in these passes over it."""
        options, (weak_list, strong_list) = self._options, self._lists
        params = draw_params(options, seed=self._seed, passes=passes, rows=rows)
        if weak_list is not None:
            weak = self._by_list(weak_list, images, passes, rows, _WEAK)
        else:
            assert isinstance(options.weak, WeakOptions)
            assert params.weak is not None
            weak = weak_view(images, options.weak, params.weak, self._bank)
        if not strong:
            return ViewPair(weak, None, params)
        if strong_list is not None:
            return ViewPair(weak, self._by_list(strong_list, images, passes, rows, _STRONG), params)
        assert isinstance(options.strong, StrongOptions)
        assert params.strong is not None
        return ViewPair(weak, strong_view(images, options.strong, params.strong, self._bank), params)

    def _by_list(
        self,
        augmentations: "KorniaList",
        images: Tensor,
        passes: Sequence[int],
        rows: Sequence[int],
        which: int,
    ) -> Tensor:
        seeds = [
            image_seed(self._seed, one_pass, row, which) for one_pass, row in zip(passes, rows, strict=True)
        ]
        views = [augmentations.view(image, seed) for image, seed in zip(images, seeds, strict=True)]
        return torch.stack(views)
