"""The soft Dice loss over the voxels whose labels are known, of a batch that several processes may share."""

import torch
from torch import Tensor

from labelassemble.ops.class_sums import class_sums
from labelassemble.training.distributed import SINGLE_PROCESS, Processes

_SMOOTH = 1e-5  # MONAI's smooth_nr and smooth_dr


def soft_dice_loss(
    logits: Tensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial], NaN = unknown
    *,
    class_weight: Tensor | None = None,  # [C]
    images: int | None = None,
    processes: Processes = SINGLE_PROCESS,
    sums: Tensor | None = None,  # float64 [6, C]
) -> Tensor:
    """Return the mean of 1 - Dice over the classes that have a known voxel in the batch, 0 if none has.

    Dice of a class = (2 sum(a y) + s) / (sum(a) + sum(y) + s) with s = 1e-5, over all known voxels of the batch
    (Milletari et al., 3DV 2016): MONAI's DiceLoss(batch=True) on probabilities and targets times the known mask, from
    its sums, which processes can add up. A class without a known voxel has no gradient, and neither has an unknown
    voxel.

    Args:
        logits: of one view.
        targets: labels, 0 to 1.
        class_weight: weight of each class; the mean divides by the number of classes all the same.
        images: of the whole batch, where it goes through the network in parts: the part's Dice loss counts by its share
            of the images. None for the batch's own.
        processes: each holds a part of the batch. The results of the processes add up to the loss, and so do their
            gradients.
        sums: what `class_sums` gives of logits and targets, where the caller has it.
    """
    sums = class_sums(logits, targets) if sums is None else sums
    own, counts = sums[:3], sums[3].detach()  # [3, C], [C]
    held: float = len(logits)
    if processes.count > 1:
        size = own.shape[1]
        of_all = processes.sum([*own.detach().flatten().tolist(), *counts.tolist(), held])
        whole = own.new_tensor(of_all[: 3 * size]).reshape(3, size)
        own = own - own.detach() + whole  # the value of the whole batch, the gradient of this part
        counts, held = own.new_tensor(of_all[3 * size : -1]), of_all[-1]
    overlap, predicted, drawn = own.unbind()
    losses = 1 - (2 * overlap + _SMOOTH) / (predicted + drawn + _SMOOTH)
    if class_weight is not None:
        losses = losses * class_weight.to(losses)
    there = counts > 0
    loss = torch.where(there, losses, 0).sum() / there.sum().clamp(min=1)
    if images is not None:
        loss = loss * (held / max(images, 1))
    loss = loss - loss.detach() * (1 - 1 / processes.count)
    return loss.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
