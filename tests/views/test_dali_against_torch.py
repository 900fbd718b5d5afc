"""DALI's views against those of the torch backend, transform by transform.

Both are made from the same random numbers, so that they can be compared pixel by pixel, which is more than the same
statistics; the statistics are compared as well. Tolerances, in units of the value range 0..1:

- without resizing and without randomness: 1e-6;
- resized: 1e-5, but for the outermost ring of pixels, where DALI repeats the border and torch leaves out what lies
  beyond it: 0.1;
- turned: 0.002 on average over images with sharp noise (interpolation of 1/32 of a pixel and less);
- colour images as grey: 2/255 after a PNG, as DALI rounds the grey value.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from labelassemble.views.choice import Choice, open_views
from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.sampler import Sampler

pytestmark = pytest.mark.dali

SIZE = 48
STILL = {"flip": 0, "rotate": 0, "noise": 0}
NOTHING = {**STILL, "salt_pepper": 0, "brightness": 0, "contrast": 0, "saturation": 0, "erase": 0}


def _files(folder: Path, count: int, shape: tuple[int, ...]) -> list[str]:
    """Return smooth pictures with a little noise, in the middle of the value range."""
    rng = np.random.default_rng(0)
    files = []
    for index in range(count):
        small = rng.integers(40, 200, (6, 6, *shape[2:]), dtype=np.uint8)
        large = np.asarray(Image.fromarray(small).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
        noisy = (large + rng.normal(0, 3, large.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{index}.png")
        files.append(str(folder / f"{index}.png"))
    return files


Pair = tuple[Tensor, Tensor]


def _both(
    files: list[str], *, weak: dict[str, Any] = STILL, strong: dict[str, Any] = NOTHING, channels: int = 1
) -> tuple[Pair, Pair]:
    """Return (weak, strong) of torch and of DALI, in 0..1, in the order of the files."""
    options = ViewOptions(
        size=SIZE,
        channels=channels,
        mean=(0.0,),
        std=(1.0,),
        weak=WeakOptions(**weak),
        strong=StrongOptions(**strong),
    )
    found = []
    for name in ("torch", "dali"):
        sampler = Sampler(len(files), batch_size=32, seed=5)
        views = open_views(Choice(name, ""), files, np.zeros((len(files), 1), np.float32), options, sampler)
        batches = list(views.epoch(0, strong=True))
        order = torch.cat([batch.rows for batch in batches]).argsort()
        weak_views = torch.cat([batch.weak for batch in batches])[order]
        strong_views = torch.cat([batch.strong for batch in batches if batch.strong is not None])[order]
        found.append((weak_views, strong_views))
    return found[0], found[1]


def _assert_alike(ours: Tensor, dalis: Tensor, *, mean: float, share: float) -> None:
    """Same within `mean` on average, with at most `share` of the pixels off by more than 0.02; same statistics."""
    difference = (ours - dalis).abs()
    assert float(difference.mean()) <= mean
    assert float((difference > 0.02).float().mean()) <= share
    assert float(ours.mean()) == pytest.approx(float(dalis.mean()), abs=1e-3)
    assert float(ours.var()) == pytest.approx(float(dalis.var()), rel=0.01)
    bins = [torch.histc(x, bins=20, min=0, max=1) / x.numel() for x in (ours, dalis)]
    assert float((bins[0] - bins[1]).abs().sum()) <= 0.02


@pytest.mark.parametrize("channels", [1, 3])
def test_identical_without_randomness_at_the_views_own_size(tmp_path: Path, channels: int) -> None:
    files = _files(tmp_path, 5, (SIZE, SIZE, 3) if channels == 3 else (SIZE, SIZE))
    for ours, dalis in zip(*_both(files, channels=channels), strict=True):
        assert float((ours - dalis).abs().max()) <= 1e-6


@pytest.mark.parametrize("shape", [(64, 100), (200, 120), (30, 20), (48, 48)])
@pytest.mark.parametrize("channels", [1, 3])
def test_identical_without_randomness_but_for_the_outermost_pixels(
    tmp_path: Path, shape: tuple[int, int], channels: int
) -> None:
    files = _files(tmp_path, 4, (*shape, channels) if channels == 3 else shape)
    for ours, dalis in zip(*_both(files, channels=channels), strict=True):
        difference = (ours - dalis).abs()
        assert float(difference[..., 1:-1, 1:-1].max()) <= 1e-5
        assert float(difference.max()) <= 0.1


def test_grey_and_colour_take_each_others_place(tmp_path: Path) -> None:
    (tmp_path / "grey").mkdir()
    (tmp_path / "colour").mkdir()
    grey, colour = _files(tmp_path / "grey", 3, (SIZE, SIZE)), _files(tmp_path / "colour", 3, (SIZE, SIZE, 3))
    ours, dalis = _both(grey, channels=3)
    assert float((ours[0] - dalis[0]).abs().max()) <= 1e-6
    ours, dalis = _both(colour, channels=1)
    assert float((ours[0] - dalis[0]).abs().max()) <= 2 / 255


def test_sixteen_bits_and_jpeg(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 65536, (SIZE, SIZE)).astype(np.uint16)).save(tmp_path / "deep.png")
    smooth = np.add.outer(np.arange(SIZE), np.arange(SIZE)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "smooth.jpg", quality=90)
    ours, dalis = _both([str(tmp_path / "deep.png"), str(tmp_path / "smooth.jpg")])
    assert float((ours[0][0] - dalis[0][0]).abs().max()) <= 1e-6
    assert (
        float((ours[0][1] - dalis[0][1]).abs().max()) <= 1.01 / 255
    )  # decoders may round a JPEG differently


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("change", "mean", "share"),
    [
        ({"flip": 0.5}, 1e-5, 0.0),
        ({"rotate": 15.0}, 2e-3, 0.01),
        ({"noise": 0.05}, 1e-6, 0.0),
        ({"salt_pepper": 0.05}, 1e-6, 0.0),
        ({"brightness": 0.3}, 1e-6, 0.0),
        ({"contrast": 0.5}, 1e-6, 0.0),
        ({"saturation": 0.8}, 1e-6, 0.0),
        ({"erase": 0.7}, 1e-6, 0.0),
    ],
)
def test_each_transform_is_the_same(
    tmp_path: Path, change: dict[str, float], mean: float, share: float, channels: int
) -> None:
    files = _files(tmp_path, 48, (SIZE, SIZE, 3) if channels == 3 else (SIZE, SIZE))
    weak = {**STILL, **{key: value for key, value in change.items() if key in STILL}}
    (ours_weak, ours), (dalis_weak, dalis) = _both(
        files, weak=weak, strong={**NOTHING, **change}, channels=channels
    )
    still = _both(files, channels=channels)[0][1]
    if change != {"saturation": 0.8} or channels == 3:
        assert float((ours - still).abs().mean()) > 1e-3  # it did something
    _assert_alike(ours, dalis, mean=mean, share=share)
    _assert_alike(ours_weak, dalis_weak, mean=mean, share=share)


def test_all_transforms_together_are_the_same(tmp_path: Path) -> None:
    files = _files(tmp_path, 64, (100, 90))
    ours, dalis = _both(files, weak={}, strong={})
    for one, other in zip(ours, dalis, strict=True):
        _assert_alike(one, other, mean=2e-3, share=0.02)


def test_angles_are_distributed_alike(tmp_path: Path) -> None:
    """A bright bar through the centre shows the angle that each view was turned by."""
    pixels = np.zeros((SIZE, SIZE), dtype=np.uint8)
    pixels[22:26, 4:44] = 255
    Image.fromarray(pixels).save(tmp_path / "bar.png")
    files = [str(tmp_path / "bar.png")] * 200
    ys, xs = torch.meshgrid(torch.arange(SIZE) - 23.5, torch.arange(SIZE) - 23.5, indexing="ij")

    def angles(views: Tensor) -> Tensor:
        mass = views[:, 0] / views[:, 0].sum((1, 2), keepdim=True)
        xx, yy, xy = ((mass * part).sum((1, 2)) for part in (xs * xs, ys * ys, xs * ys))
        return torch.rad2deg(0.5 * torch.atan2(2 * xy, xx - yy))

    ours, dalis = _both(files, weak={"flip": 0, "rotate": 10.0, "noise": 0})
    one, other = angles(ours[0]), angles(dalis[0])
    assert float((one - other).abs().max()) < 0.1  # degrees
    for found in (one, other):
        assert float(found.abs().max()) <= 10.2
        assert float(found.std()) == pytest.approx(10 / 3**0.5, abs=0.6)  # uniform


def test_turned_and_deep_images_are_the_same_pixels_for_both(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    [upright] = _files(tmp_path, 1, (SIZE, SIZE))
    pixels = np.asarray(Image.open(upright))
    deep = np.rot90(pixels).astype(np.uint16) * 16
    files = [str(tmp_path / name) for name in ("a.jpg", "b.png", "c.png")]
    Image.fromarray(np.rot90(pixels)).save(files[0], exif=exif, quality=100)
    Image.fromarray(np.rot90(pixels)).save(files[1], exif=exif)
    Image.fromarray(deep).save(files[2], exif=exif)
    data = Path(files[2]).read_bytes()
    bits = b"\0\0\0\1sBIT\x0c"
    end = 8 + 12 + 13  # of the header
    Path(files[2]).write_bytes(data[:end] + bits + struct.pack(">I", zlib.crc32(bits[4:])) + data[end:])
    torch_views, dali_views = _both([upright, *files])
    for views in (torch_views[0], dali_views[0]):
        for turned in views[1:]:
            assert (turned - views[0]).abs().max() <= 2 / 255
