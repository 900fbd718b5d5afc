import math

import pytest
import torch

from labelassemble.views.noise import NoiseBank, windows
from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.params import StrongParams, WeakParams, draw_params

COUNT = 4000


def _draw(options: ViewOptions, *, seed: int = 0, one_pass: int = 0) -> tuple[WeakParams, StrongParams]:
    return draw_params(options, seed=seed, passes=[one_pass] * COUNT, rows=range(COUNT))


def test_an_images_numbers_do_not_depend_on_the_batch_it_is_in() -> None:
    options = ViewOptions()
    together = draw_params(options, seed=5, passes=[2, 2, 3], rows=[7, 8, 9])
    alone = draw_params(options, seed=5, passes=[2], rows=[8])
    for batch, single in zip((*together[0], *together[1]), (*alone[0], *alone[1]), strict=True):
        assert torch.equal(batch[1:2], single)


@pytest.mark.parametrize("other", [{"seed": 1}, {"one_pass": 1}])
def test_another_seed_or_pass_gives_other_numbers(other: dict[str, int]) -> None:
    here, there = _draw(ViewOptions()), _draw(ViewOptions(), **other)
    assert not torch.equal(here[0].radians, there[0].radians)
    assert float(torch.corrcoef(torch.stack((here[0].radians, there[0].radians)))[0, 1]) < 0.06


def test_weak_and_strong_are_drawn_apart() -> None:
    weak, strong = _draw(ViewOptions(strong=StrongOptions(rotate=10.0)))
    assert abs(float(torch.corrcoef(torch.stack((weak.radians, strong.radians)))[0, 1])) < 0.06


def test_angles_and_factors_are_uniform_within_their_strength() -> None:
    options = ViewOptions(
        weak=WeakOptions(rotate=10.0), strong=StrongOptions(brightness=0.2, contrast=0.3, saturation=0.4)
    )
    weak, strong = _draw(options)
    for values, low, high in (
        (weak.radians.rad2deg(), -10.0, 10.0),
        (strong.radians.rad2deg(), -15.0, 15.0),
        (strong.brightness, 0.8, 1.2),
        (strong.contrast, 0.7, 1.3),
        (strong.saturation, 0.6, 1.4),
    ):
        share = (values - low) / (high - low)
        assert float(share.min()) >= -1e-6
        assert float(share.max()) <= 1 + 1e-6
        counts = torch.histc(share, bins=10, min=0, max=1) / COUNT
        assert float((counts - 0.1).abs().max()) < 0.02  # 4 standard deviations


@pytest.mark.parametrize("flip", [0.0, 0.3, 1.0])
def test_flips_come_as_often_as_asked(flip: float) -> None:
    weak, strong = _draw(ViewOptions(weak=WeakOptions(flip=flip), strong=StrongOptions(flip=flip)))
    for mirrored in (weak.mirrored, strong.mirrored):
        assert float(mirrored.float().mean()) == pytest.approx(flip, abs=0.0 if flip in (0, 1) else 0.03)


def test_boxes_cover_the_area_asked_for_and_lie_inside() -> None:
    _, strong = _draw(ViewOptions(size=64, strong=StrongOptions(erase=0.5, erase_area=(0.1, 0.2))))
    top, left, tall, wide = strong.box.T
    chosen = tall > 0
    assert float(chosen.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert bool(((top + tall <= 64) & (left + wide <= 64) & (top >= 0) & (left >= 0)).all())
    share = (tall * wide / 64**2)[chosen]
    assert float(share.max()) <= 0.22  # whole pixels
    assert float(share.median()) == pytest.approx(0.15, abs=0.01)
    aspect = (tall / wide)[chosen].log()
    assert float(aspect.mean()) == pytest.approx(0.0, abs=0.06)
    assert float(aspect.abs().max()) <= -math.log(0.3) + 0.3


def test_windows_are_views_of_the_bank_at_places_of_their_own() -> None:
    bank = NoiseBank(3, 48)
    first, second = windows(bank.gaussian, torch.tensor([0.0, 0.999999]), (3, 4, 4))
    assert torch.equal(first.flatten(), bank.gaussian[:48])
    assert first.data_ptr() == bank.gaussian.data_ptr()
    assert not torch.equal(first, second)
    assert torch.equal(NoiseBank(3, 48).uniform, bank.uniform)
    assert not torch.equal(NoiseBank(4, 48).uniform, bank.uniform)


def test_the_bank_is_gaussian_and_uniform() -> None:
    bank = NoiseBank(0, 1)
    assert float(bank.gaussian.mean()) == pytest.approx(0.0, abs=0.003)
    assert float(bank.gaussian.std()) == pytest.approx(1.0, abs=0.003)
    assert float((bank.gaussian.abs() < 1).float().mean()) == pytest.approx(0.6827, abs=0.002)
    counts = torch.histc(bank.uniform, bins=10, min=0, max=1) / len(bank.uniform)
    assert float((counts - 0.1).abs().max()) < 0.001
