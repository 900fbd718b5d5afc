import math

import pytest
import torch
from torch import Generator

from labelassemble.views.augment import (
    color_jitter,
    erase,
    flip_and_rotate,
    gaussian_noise,
    salt_and_pepper,
    strong_view,
    weak_view,
)
from labelassemble.views.policy import StrongOptions, WeakOptions

NOTHING = StrongOptions(
    flip=0, rotate=0, noise=0, salt_pepper=0, brightness=0, contrast=0, saturation=0, erase=0
)


def _generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_a_policy_without_strength_changes_nothing() -> None:
    images = torch.rand(4, 3, 12, 12)
    assert torch.equal(weak_view(images, WeakOptions(flip=0, rotate=0, noise=0), _generator()), images)
    assert torch.allclose(strong_view(images, NOTHING, _generator()), images, atol=1e-6)


def test_views_leave_their_input_alone_and_stay_in_range() -> None:
    images = torch.rand(8, 1, 16, 16)
    before = images.clone()
    for view in (
        weak_view(images, WeakOptions(noise=0.5), _generator()),
        strong_view(images, StrongOptions(noise=0.5), _generator()),
    ):
        assert view.min() >= 0
        assert view.max() <= 1
        assert not torch.equal(view, images)
    assert torch.equal(images, before)


def test_same_seed_same_view_other_seed_another() -> None:
    images = torch.rand(4, 1, 16, 16)
    first = strong_view(images, StrongOptions(), _generator(3))
    assert torch.equal(first, strong_view(images, StrongOptions(), _generator(3)))
    assert not torch.equal(first, strong_view(images, StrongOptions(), _generator(4)))


def test_certain_flip_mirrors_and_forbidden_flip_never_does() -> None:
    images = torch.rand(16, 1, 8, 8)
    assert torch.equal(flip_and_rotate(images, 1.0, 0.0, _generator()), images.flip(3))
    assert torch.equal(flip_and_rotate(images, 0.0, 0.0, _generator()), images)


def test_rotation_turns_by_at_most_the_angle_in_pixels_on_oblong_images() -> None:
    # A dot at the right end of the middle row must land on the circle about the centre, within the angle.
    image = torch.zeros(200, 1, 41, 81)
    image[:, 0, 20, 60] = 1.0
    out = flip_and_rotate(image, 0.0, 30.0, _generator())
    ys, xs = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(81.0) - 40, indexing="ij")
    mass = out.sum(dim=(1, 2, 3))
    x = (out[:, 0] * xs).sum(dim=(1, 2)) / mass
    y = (out[:, 0] * ys).sum(dim=(1, 2)) / mass
    radius = torch.hypot(x, y)
    angle = torch.atan2(y, x).rad2deg()
    assert torch.allclose(radius, torch.full_like(radius, 20.0), atol=0.5)
    assert angle.abs().max() <= 31.0
    assert angle.abs().max() >= 25.0  # 200 draws reach close to the limit
    assert abs(float(angle.mean())) < 5.0
    assert abs(float(angle.std()) - 30 / math.sqrt(3)) < 3.0  # uniform


def test_noise_has_its_standard_deviation() -> None:
    out = gaussian_noise(torch.full((4, 1, 64, 64), 0.5), 0.1, _generator())
    assert float(out.std()) == pytest.approx(0.1, rel=0.03)
    assert float(out.mean()) == pytest.approx(0.5, abs=0.005)


def test_salt_and_pepper_are_half_each_and_alike_in_all_channels() -> None:
    out = salt_and_pepper(torch.full((4, 3, 64, 64), 0.5), 0.1, _generator())
    assert float((out == 0).float().mean()) == pytest.approx(0.05, abs=0.01)
    assert float((out == 1).float().mean()) == pytest.approx(0.05, abs=0.01)
    assert torch.equal(out[:, 0], out[:, 2])


def test_saturation_keeps_luma_and_grey_images() -> None:
    images = torch.rand(4, 3, 8, 8)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    out = color_jitter(images, 0.0, 0.0, 0.5, _generator())
    assert torch.allclose((out * luma).sum(1), (images * luma).sum(1), atol=1e-6)
    assert not torch.allclose(out, images)
    grey = torch.rand(4, 1, 8, 8)
    assert torch.allclose(color_jitter(grey, 0.0, 0.0, 0.5, _generator()), grey, atol=1e-6)


def test_erasing_covers_the_area_asked_for() -> None:
    images = torch.full((400, 1, 64, 64), 2.0)  # a value that noise never has
    out = erase(images, 0.5, (0.1, 0.2), _generator())
    share = (out != 2.0).float().mean(dim=(1, 2, 3))
    erased = share[share > 0]
    assert 0.4 < len(erased) / 400 < 0.6
    # Rectangles that would not fit are cut to the image, so a few are smaller.
    assert float(erased.max()) <= 0.22
    assert float(erased.median()) == pytest.approx(0.15, abs=0.02)
