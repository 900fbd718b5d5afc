import math

import pytest
import torch

from labelassemble.views.augment import (
    fill_boxes,
    flip_and_rotate,
    jitter,
    salt_and_pepper,
    strong_view,
    weak_view,
)
from labelassemble.views.noise import NoiseBank
from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.params import draw_params

NOTHING = StrongOptions(
    flip=0, rotate=0, noise=0, salt_pepper=0, brightness=0, contrast=0, saturation=0, erase=0
)
BANK = NoiseBank(0, 3 * 64 * 64)


def _views(
    images: torch.Tensor, weak: WeakOptions, strong: StrongOptions, *, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    options = ViewOptions(size=images.shape[2], weak=weak, strong=strong)
    params = draw_params(options, seed=seed, passes=[0] * len(images), rows=range(len(images)))
    return weak_view(images, weak, params.weak, BANK), strong_view(images, strong, params.strong, BANK)


def test_options_without_strength_change_nothing() -> None:
    images = torch.rand(4, 3, 12, 12)
    weak, strong = _views(images, WeakOptions(flip=0, rotate=0, noise=0), NOTHING)
    assert torch.equal(weak, images)
    assert torch.allclose(strong, images, atol=1e-6)


@pytest.mark.parametrize("weak", [WeakOptions(noise=0.5), WeakOptions(flip=0, rotate=0, noise=0.5)])
def test_views_leave_their_input_alone_and_stay_in_range(weak: WeakOptions) -> None:
    images = torch.rand(8, 1, 16, 16)
    before = images.clone()
    strong = NOTHING.model_copy(update={"noise": 0.5, "erase": 1.0, "salt_pepper": 0.1})
    for view in _views(images, weak, strong):
        assert view.min() >= 0
        assert view.max() <= 1
        assert not torch.equal(view, images)
    assert torch.equal(images, before)


def test_same_seed_same_view_other_seed_another() -> None:
    images = torch.rand(4, 1, 16, 16)
    first = _views(images, WeakOptions(), StrongOptions(), seed=3)
    again = _views(images, WeakOptions(), StrongOptions(), seed=3)
    other = _views(images, WeakOptions(), StrongOptions(), seed=4)
    for view in range(2):
        assert torch.equal(first[view], again[view])
        assert not torch.equal(first[view], other[view])


@pytest.mark.parametrize("turns", [False, True])
def test_a_flip_mirrors_left_and_right(turns: bool) -> None:
    images = torch.rand(2, 1, 8, 6)
    out = flip_and_rotate(images, torch.tensor([True, False]), torch.zeros(2), turns=turns)
    assert torch.allclose(out[0], images[0].flip(2), atol=1e-5)
    assert torch.allclose(out[1], images[1], atol=1e-5)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [-30.0, 10.0, 80.0])
def test_a_dot_turns_about_the_centre_by_the_angle_on_oblong_images(mirrored: bool, degrees: float) -> None:
    image = torch.zeros(1, 1, 41, 81)
    image[:, 0, 20, 60] = 1.0  # 20 pixels right of the centre
    out = flip_and_rotate(image, torch.tensor([mirrored]), torch.tensor([math.radians(degrees)]))
    ys, xs = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(81.0) - 40, indexing="ij")
    mass = out[0, 0] / out.sum()
    x, y = float((mass * xs).sum()), float((mass * ys).sum())
    assert math.hypot(x, y) == pytest.approx(20.0, abs=0.5)
    side = 180.0 if mirrored else 0.0
    turned = math.degrees(math.atan2(-y, x)) - side  # counter-clockwise, with rows counted downwards
    assert (turned - degrees + 180) % 360 - 180 == pytest.approx(0.0, abs=1.0)


def test_what_turns_in_from_outside_is_black() -> None:
    out = flip_and_rotate(torch.ones(1, 1, 32, 32), torch.tensor([False]), torch.tensor([math.radians(45.0)]))
    assert float(out[0, 0, 0, 0]) == 0.0
    assert float(out[0, 0, 16, 16]) == pytest.approx(1.0)


def test_noise_has_its_standard_deviation_and_differs_between_images() -> None:
    images = torch.full((16, 1, 64, 64), 0.5)
    weak, _ = _views(images, WeakOptions(flip=0, rotate=0, noise=0.1), NOTHING)
    assert float(weak.std()) == pytest.approx(0.1, rel=0.02)
    assert float(weak.mean()) == pytest.approx(0.5, abs=0.002)
    correlation = torch.corrcoef(weak.flatten(1)).fill_diagonal_(0.0)
    assert float(correlation.abs().max()) < 0.08


def test_salt_and_pepper_are_half_each_and_alike_in_all_channels() -> None:
    out = salt_and_pepper(torch.full((4, 3, 64, 64), 0.5), 0.1, torch.rand(4, 1, 64, 64))
    assert float((out == 0).float().mean()) == pytest.approx(0.05, abs=0.01)
    assert float((out == 1).float().mean()) == pytest.approx(0.05, abs=0.01)
    assert torch.equal(out[:, 0], out[:, 2])


def test_brightness_scales_and_contrast_keeps_the_mean() -> None:
    images = torch.rand(2, 3, 8, 8)
    one, factor = torch.ones(2), torch.tensor([0.5, 1.5])
    assert torch.allclose(jitter(images, factor, one, one), images * factor.view(-1, 1, 1, 1), atol=1e-6)
    out = jitter(images, one, factor, one)
    assert torch.allclose(out.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-6)
    assert torch.allclose(out.std((1, 2, 3)), images.std((1, 2, 3)) * factor, atol=1e-6)


def test_saturation_keeps_luma_and_grey_images() -> None:
    images = torch.rand(4, 3, 8, 8)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    one, factor = torch.ones(4), torch.full((4,), 0.5)
    out = jitter(images, one, one, factor)
    assert torch.allclose((out * luma).sum(1), (images * luma).sum(1), atol=1e-6)
    assert not torch.allclose(out, images)
    grey = torch.rand(4, 1, 8, 8)
    assert torch.allclose(jitter(grey, one, one, factor), grey, atol=1e-6)


def test_boxes_are_filled_and_nothing_else() -> None:
    images, noise = torch.zeros(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    fill_boxes(images, torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 0.0]]), list(noise))
    assert torch.equal(images[0, :, 1:4, 2:6], noise[0, :, 1:4, 2:6])
    assert int((images != 0).sum()) == 3 * 3 * 4


@pytest.mark.cuda
def test_views_on_the_gpu_are_those_of_the_cpu() -> None:
    images = torch.rand(4, 3, 32, 32)
    options = ViewOptions(size=32, channels=3)
    params = draw_params(options, seed=0, passes=[0] * 4, rows=range(4))
    bank = NoiseBank(0, 3 * 64 * 64, "cuda")
    weak = weak_view(images.cuda(), options.weak, params.weak, bank).cpu()
    strong = strong_view(images.cuda(), options.strong, params.strong, bank).cpu()
    assert torch.allclose(weak, weak_view(images, options.weak, params.weak, BANK), atol=1e-4)
    assert float((strong - strong_view(images, options.strong, params.strong, BANK)).abs().mean()) < 1e-4
