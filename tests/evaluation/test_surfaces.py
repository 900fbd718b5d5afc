"""The agreement of two surfaces, against MONAI's."""

import numpy as np
import pytest
from scipy import ndimage

from labelassemble.evaluation.surfaces import surface_dice

SPACINGS = {2: [None, (0.7, 0.7), (0.5, 1.25)], 3: [None, (0.7, 0.7, 2.1), (0.8, 0.8, 0.8)]}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI 1.6 warns of its own call
@pytest.mark.parametrize("shape", [(31, 40), (1, 9), (14, 17, 12), (6, 1, 5)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_monais_number(shape: tuple[int, ...], seed: int) -> None:
    torch = pytest.importorskip("torch")
    surface = pytest.importorskip("monai.metrics.surface_dice")
    rng = np.random.default_rng(seed)
    first, second = (ndimage.gaussian_filter(rng.normal(size=shape), 1.2) > 0.1 for _ in range(2))
    first[(0,) * len(shape)] = second[(-1,) * len(shape)] = True  # at the border, and never empty
    for spacing in SPACINGS[len(shape)]:
        for tolerance in (0.7, 1.4, 2.0, 2.1, 3.5):  # multiples of a spacing among them
            theirs = surface.compute_surface_dice(
                torch.from_numpy(first)[None, None],
                torch.from_numpy(second)[None, None],
                [tolerance],
                include_background=True,
                spacing=spacing,
            )
            assert surface_dice(first, second, tolerance, spacing) == float(theirs)


def test_masks_far_apart_and_masks_that_are_the_same() -> None:
    first, second = (np.zeros((60, 60, 60), np.bool_) for _ in range(2))
    first[2:5, 2:5, 2:5], second[50:55, 50:55, 50:55] = True, True
    assert surface_dice(first, second, 2.0, None) == 0
    assert surface_dice(first, first, 1e-3, (1.0, 1.0, 1.0)) == 1
