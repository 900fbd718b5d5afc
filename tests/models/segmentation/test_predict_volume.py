"""A whole volume against a plain loop over its windows."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.models.segmentation.predict_volume import predict_volume
from labelassemble.views.volume_options import VolumeOptions

pytest.importorskip("monai")


class Ramp(nn.Module):
    """Logits that depend on the place within the window, so that the weights of the overlap show."""

    classes = ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, images.shape[2]).reshape(-1, *[1] * (images.dim() - 3))
        return torch.cat([images * self.scale, images + ramp], dim=1)


def _starts(size: int, window: int, overlap: float) -> list[int]:
    step = max(int(window * (1 - overlap)), 1)
    count = 1 if size <= window else int(np.ceil((size - window) / step)) + 1
    return [min(index * step, size - window) for index in range(count)]


def _plain(image: NDArray[np.float64], window: tuple[int, ...], overlap: float) -> NDArray[np.float64]:
    """The same by loops in float64."""
    pads = [max(w - s, 0) for w, s in zip(window, image.shape, strict=True)]
    padded = np.pad(image, [(pad // 2, pad - pad // 2) for pad in pads])
    weight = np.ones(window)
    for axis, size in enumerate(window):
        x = np.arange(-(size - 1) / 2, (size - 1) / 2 + 1)
        shape = [1] * len(window)
        shape[axis] = size
        weight = weight * np.exp(x**2 / (-2 * (0.125 * size) ** 2)).reshape(shape)
    weight = np.maximum(weight, 1e-3)
    total, count = np.zeros((2, *padded.shape)), np.zeros(padded.shape)
    for corner in itertools.product(
        *(_starts(s, w, overlap) for s, w in zip(padded.shape, window, strict=True))
    ):
        place = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        part = padded[place]
        ramp = np.linspace(-1, 1, window[0]).reshape(-1, *[1] * (len(window) - 1))
        total[(slice(None), *place)] += np.stack([part * 0.5, part + ramp]) * weight
        count[place] += weight
    logits = (total / count)[
        (slice(None), *(slice(p // 2, p // 2 + s) for p, s in zip(pads, image.shape, strict=True)))
    ]
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize(
    ("size", "patch"),
    [
        ((19, 30), (16, 8)),
        ((11, 9), (16, 16)),
        ((8, 8), (8, 8)),
        ((10, 17, 9), (8, 8, 16)),
        ((5, 7, 9), (8, 8, 16)),
    ],
)
def test_probabilities_are_those_of_a_loop_over_the_windows(
    size: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    image = torch.randn(1, *size)
    options = VolumeOptions(patch=patch, overlap=0.5)
    net = Ramp().train()
    found = predict_volume(net, image, options)
    assert found.dtype == torch.float32
    assert net.training
    np.testing.assert_allclose(found.numpy(), _plain(image[0].double().numpy(), patch, 0.5), atol=1e-5)


class Seen(nn.Module):
    """Notes how many windows come at once."""

    classes = ("a",)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return images * self.scale


@pytest.mark.parametrize(
    ("patch", "windows", "seen"),
    [
        ((8, 8, 8), 1, [2]),  # a single small window takes longer than two
        ((8, 8, 8), 5, [4, 2]),
        ((48, 48, 48), 4, [3, 1]),
        ((64, 64, 64), 2, [1, 1]),
        ((8, 8), 5, [4, 1]),
        ((256, 256), 4, [3, 1]),
    ],
)
def test_windows_go_through_the_network_as_is_quickest_for_their_size(
    patch: tuple[int, ...], windows: int, seen: list[int]
) -> None:
    net = Seen()
    predict_volume(
        net, torch.zeros(1, patch[0] * windows, *patch[1:]), VolumeOptions(patch=patch, overlap=0.0)
    )
    assert net.seen == seen


def test_answers_that_are_not_finite_and_other_dimensions_are_named() -> None:
    net, options = Ramp(), VolumeOptions(patch=(8, 8))
    image = torch.zeros(1, 8, 8)
    image[0, 3, 3] = torch.inf
    with pytest.raises(LabelAssembleError, match=r"ct\.nii: the model's answer for 'a' must be finite"):
        predict_volume(net, image, options, name="ct.nii")
    with pytest.raises(LabelAssembleError, match="must have 2 axes, got 3"):
        predict_volume(net, torch.zeros(1, 8, 8, 8), options)
