import numpy as np
import pytest
import torch
from PIL import Image

from labelassemble.views.preprocess import Preprocess, to_unit_range


def test_values_are_scaled_then_normalized() -> None:
    images = torch.tensor([0, 51, 255, 102], dtype=torch.uint8).view(1, 1, 2, 2)
    out = Preprocess(channels=1, size=2, mean=(0.5,), std=(0.25,))(images)
    assert torch.allclose(out.flatten(), torch.tensor([-2.0, -1.2, 2.0, -0.4]))


def test_uint8_and_float_images_give_the_same_pixels() -> None:
    images = torch.randint(0, 256, (3, 3, 20, 30), dtype=torch.uint8)
    preprocess = Preprocess(channels=3, size=16)
    assert torch.equal(preprocess(images), preprocess(images.float() / 255))


def test_grey_becomes_three_equal_channels_and_colour_becomes_luma() -> None:
    grey = torch.rand(2, 1, 8, 8)
    assert torch.equal(to_unit_range(grey, 3), grey.expand(-1, 3, -1, -1))
    colour = torch.randint(0, 256, (1, 3, 9, 9), dtype=torch.uint8)
    ours = to_unit_range(colour, 1)[0, 0] * 255
    pillow = np.asarray(Image.fromarray(colour[0].permute(1, 2, 0).numpy()).convert("L"), dtype=np.float32)
    assert np.abs(ours.numpy() - pillow).max() <= 1.0  # Pillow rounds to whole values


def test_resize_is_pillows_antialiased_bilinear() -> None:
    pixels = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    pillow = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
    ours = Preprocess(channels=1, size=16, mean=(0.0,), std=(1.0,))(torch.from_numpy(pixels)[None, None])
    assert np.abs(ours[0, 0].numpy() - pillow).max() < 1e-5


def test_scripted_and_eager_are_the_same() -> None:
    preprocess = Preprocess(channels=1, size=24)
    images = torch.randint(0, 256, (2, 3, 31, 17), dtype=torch.uint8)
    assert torch.equal(torch.jit.script(preprocess)(images), preprocess(images))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"images must have the shape \[B, 1 or 3, H, W\], got \[3, 8, 8\]"),
        (torch.zeros(1, 2, 8, 8), r"got \[1, 2, 8, 8\]"),
        (
            torch.zeros(1, 1, 8, 8, dtype=torch.int64),
            r"uint8 \(0..255\) or floating \(0..1\), got torch.int64",
        ),
    ],
)
def test_what_is_no_image_is_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess(channels=1, size=8)(images)


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_images_outside_0_to_1_are_refused(scripted: bool, dtype: torch.dtype) -> None:
    preprocess = Preprocess(channels=1, size=8)
    if scripted:
        preprocess = torch.jit.script(preprocess)
    image = torch.linspace(0, 1, 64, dtype=dtype).view(1, 1, 8, 8)
    preprocess(image)
    preprocess(image[:0])
    preprocess(image * (1 + 2**-11))  # rounding
    wrong = [image * 255, (image - 0.5) / 0.25, image - 0.01, image * 1.01]
    wrong += [torch.where(image == 0, value, image) for value in (torch.nan, torch.inf)]
    for one in wrong:
        with pytest.raises(
            (ValueError, torch.jit.Error), match=r"images must be uint8 \(0..255\) or floating in 0..1"
        ):
            preprocess(torch.cat([image, one]))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        Preprocess(channels=2)
    with pytest.raises(ValueError, match="mean and std must have 1 or 3 values, got 2 and 1"):
        Preprocess(channels=3, mean=(0.1, 0.2))
