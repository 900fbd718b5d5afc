"""Where the voxels of a volume lie, against nibabel."""

import numpy as np
import pytest
from numpy.typing import NDArray

from labelassemble.data.grid import Grid, turned_back, turned_to_ras


def affines() -> NDArray[np.float64]:
    """Return places turned anywhere, a third of them mirrored and a third of them sheared, [300, 4, 4]."""
    rng = np.random.default_rng(0)
    turns = np.linalg.qr(rng.normal(size=(300, 3, 3)))[0] * rng.uniform(0.4, 8, (300, 1, 3))
    turns[:100] *= [1, 1, -1]
    turns[200:] = turns[200:] @ (np.eye(3) + rng.uniform(-0.2, 0.2, (100, 3, 3)))
    result = np.tile(np.eye(4), (300, 1, 1))
    result[:, :3, :3] = turns
    result[:, :3, 3] = rng.uniform(-90, 90, (300, 3))
    return result


def test_each_axis_has_a_side_of_its_own_as_in_nibabel() -> None:
    orientations = pytest.importorskip("nibabel").orientations
    collided = 0
    for affine in affines():
        found = Grid((3, 4, 5), affine)
        wanted = orientations.io_orientation(affine)
        axes, backwards = found.directions()
        assert list(axes) == wanted[:, 0].astype(int).tolist()
        assert [-1.0 if back else 1.0 for back in backwards] == wanted[:, 1].tolist()
        assert found.sides() == "".join(orientations.ornt2axcodes(wanted))
        collided += len(set(np.abs(affine[:3, :3]).argmax(axis=0).tolist())) < 3
    assert collided > 20  # two axes nearest to one


def test_a_turned_volume_lies_where_it_lay_and_comes_back() -> None:
    values = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(np.float32)
    for affine in affines():
        turned, place = turned_to_ras(values, affine)
        assert sorted(turned.shape) == [3, 4, 5]
        np.testing.assert_allclose(_by_value(turned, place), _by_value(values, affine), atol=1e-10)
        stored = Grid(values.shape, affine)
        np.testing.assert_array_equal(turned_back(turned, stored), values)
        np.testing.assert_array_equal(
            turned_back(np.stack([turned, -turned]), stored), np.stack([values, -values])
        )


def _by_value(values: NDArray[np.float32], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the voxels lie, from the least value to the greatest."""
    places = np.stack([*np.unravel_index(values.argsort(axis=None), values.shape), np.ones(values.size)])
    return affine @ places


@pytest.mark.parametrize("noise", [0.0, 1e-8, -1e-8])
def test_half_way_between_two_sides_noise_does_not_choose(noise: float) -> None:
    half = np.sqrt(0.5)
    affine = np.eye(4)
    affine[:2, :2] = [[half - noise, -half], [half, half + noise]]
    assert Grid((2, 2, 2), affine).sides() == "RAS"
