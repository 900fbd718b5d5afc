"""The probabilities of a whole volume, window by window."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.models.evaluating import evaluating
from labelassemble.views.volume_options import VolumeOptions


def predict_volume(
    net: nn.Module,
    image: Tensor,  # [channels, *spatial]
    options: VolumeOptions,
    *,
    name: str = "the volume",
) -> Tensor:
    """Return the probabilities of every class at every voxel, float32 [C, *spatial], on the CPU.

    The network sees patches that overlap by `options.overlap` of their edge, the last of an axis shifted inwards, and
    a volume that is smaller than the patch padded with 0 on both sides (MONAI's SlidingWindowInferer). Its logits are
    averaged with Gaussian weights of a standard deviation of an eighth of the edge, at least 0.001 (at the centre they
    are about 1); the probability is the sigmoid of that mean. Beside image and answer it holds one more channel.

    Args:
        net: takes [B, channels, *patch], gives logits [B, C, *patch]. Put into eval mode for the call, and back.
        image: the volume as `load_case` gives it, with a channel axis in front.
        options: patch and overlap.
        name: of the volume, for an error.

    Raises:
        LabelAssembleError: an image with other dimensions than the patch, or an answer that is not finite.
    """
    from monai.inferers.inferer import SlidingWindowInferer

    if image.dim() != 1 + options.dims:
        raise LabelAssembleError(
            f"{name}: volumes.patch has {options.dims} sizes, so the volume must have {options.dims} axes, "
            f"got {image.dim() - 1}"
        )
    device = next(net.parameters()).device
    most, least = windows_at_once(options.patch, device)

    def answer(windows: Tensor) -> Tensor:
        lacking = least - len(windows)
        if lacking <= 0:
            return net(windows)  # type: ignore[no-any-return]
        again = windows[:1].expand(lacking, *windows.shape[1:])
        return net(torch.cat([windows, again]))[: len(windows)]  # type: ignore[no-any-return]

    inferer = SlidingWindowInferer(
        roi_size=options.patch,
        sw_batch_size=most,
        overlap=options.overlap,
        mode="gaussian",
        sigma_scale=0.125,
        sw_device=device,
        device=torch.device("cpu"),
    )
    with evaluating(net):
        logits: Tensor = inferer(image.float()[None], answer)[0]
        _check_finite(logits, net, name)
        return logits.sigmoid_()


def windows_at_once(patch: Sequence[int], device: torch.device) -> tuple[int, int]:
    """Return how many windows go through a network at once, and how many each call of it has at least.

    torch runs small convolutions of a single window without oneDNN, and large ones quicker alone; the figures stand in
    csrc/runtime/windows.h.
    """
    if device.type != "cpu":
        return 4, 1
    voxels = math.prod(patch)
    if voxels <= 1 << 15:
        return 4, 2 if len(patch) == 3 else 1
    return (3 if voxels <= 1 << 17 else 1), 1


def _check_finite(logits: Tensor, net: nn.Module, name: str) -> None:
    names = getattr(net, "classes", ())
    for column, channel in enumerate(logits):
        low, high = channel.aminmax()  # NaN where there is one; a mask of the whole volume would take memory
        if bool(torch.isfinite(low) & torch.isfinite(high)):
            continue
        shown = f"'{names[column]}'" if column < len(names) else f"class {column}"
        raise LabelAssembleError(
            f"{name}: the model's answer for {shown} must be finite at every voxel: the model is broken (its training "
            "diverged, or its file is damaged), so train anew or use another checkpoint"
        )
