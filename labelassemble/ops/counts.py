"""What the means of the loss divide by, where a batch lies on several processes or comes in several parts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.fx
from torch import Tensor

from labelassemble import _extension

from .loss_reference import known_mask


class LossCounts(NamedTuple):
    """What the means of the loss divide by, where that is not the batch's own; float64 scalars or numbers.

    Attributes:
        known: known labels.
        unknown: unknown labels.
        known_by_class: known labels of each class, [C]; needed by known_mean "class" alone.
    """

    known: Tensor  # []
    unknown: Tensor  # []
    known_by_class: Tensor | None = None  # [C]


def counts_of(targets: Tensor) -> LossCounts:
    """Return the known and unknown labels of targets [B, C, *spatial] or [B], float64, without waiting for a GPU."""
    known = known_mask(targets)
    known = known[:, None] if known.dim() < 2 else known
    each = known.count_nonzero([axis for axis in range(known.dim()) if axis != 1]).double()
    total = each.sum()
    return LossCounts(total, known.numel() - total, each)


def global_counts(
    targets: Tensor | Sequence[Tensor],  # [B, C, *spatial] or [B], or several such
    group: dist.ProcessGroup | None = None,
    *,
    divided_by: int | None = None,
) -> LossCounts:
    """Return what the loss is to divide by, so that processes or parts of a batch train as the whole batch would.

    A mean over the known labels of a process, or of a part, is not a share of the mean over all of them: the few labels
    of one would count as much as the many of another. With these counts the losses of the parts add up to the loss of
    the whole, and their gradients too:

        loss = criterion(logits_weak, logits_strong, targets, counts=global_counts(targets))

    Where torch.distributed is initialised, all processes of the group must call this together (one all-reduce of C + 1
    numbers, on the device of the targets). DistributedDataParallel and FSDP divide the sum of the processes' gradients
    by their number; the counts are divided by it too, and the mean of the processes' losses is the loss of the whole.

    Of targets that are DTensors the whole ones are counted, as the loss of DTensors is that of the whole; `group` then
    names processes beside those of their mesh, if there are any.

    Args:
        targets: labels of this process, of all its parts where the batch comes in several; floating: NaN is unknown,
            integer: -1 is unknown.
        group: the processes; None for all of them, or for this one alone without torch.distributed.
        divided_by: by what the sum of the gradients is divided later, if not by the number of processes: 1 where
            gradients are added, processes times parts where a framework also divides the loss of each part by their
            number (Lightning's `accumulate_grad_batches`, accelerate's `gradient_accumulation_steps`).
    """
    parts = [targets] if isinstance(targets, Tensor) else list(targets)
    # Of a DTensor each process counts the whole.
    distributed = any(type(part) is not Tensor and _extension.is_distributed(part) for part in parts)
    own = [counts_of(part) for part in parts]
    each = torch.stack([counts.known_by_class for counts in own if counts.known_by_class is not None]).sum(0)
    numbers = torch.cat([each, each.new_tensor([sum(part.numel() for part in parts)])])
    processes = 1
    if distributed:
        from .sharded import whole

        numbers = whole(numbers)
    if (group is not None or not distributed) and dist.is_available() and dist.is_initialized():
        dist.all_reduce(numbers, group=group)
        processes = dist.get_world_size(group)
    each, cells = numbers[:-1], numbers[-1]
    known, shares = each.sum(), processes if divided_by is None else divided_by
    return LossCounts(known / shares, (cells - known) / shares, each / shares)


def divisor(count: Tensor | float, like: Tensor) -> Tensor:
    """Return a count, float64, 1 where it is 0 and so is what is divided; that of a process's share may be below 1."""
    count = torch.as_tensor(count, dtype=torch.float64, device=like.device)
    return torch.where(count > 0, count, 1)


def weighted_entries(
    entries: Tensor,  # [B, C, *spatial]
    weight: Tensor,
    targets: Tensor,  # as entries
) -> Tensor:
    """Return the losses of entries times a weight that is broadcast to them, exactly 0 where a target is unknown."""
    return torch.where(known_mask(targets), entries * weight.to(entries.dtype), 0)


def open_in_graph(counts: object) -> bool:
    """Return whether counts are an argument that torch.fx leaves open: a graph of a loss divides by its own counts."""
    if not isinstance(counts, torch.fx.Proxy):
        return False
    _must_be_none(counts)
    return True


@torch.fx.wrap
def _must_be_none(counts: object) -> None:
    if counts is not None:
        raise RuntimeError("a loss that torch.fx traced takes no counts: trace what comes before the loss")
