"""What one network has learnt, carried over to another by the names of classes and sources."""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.growth import grow
from labelassemble.head import ClassQueryHead
from labelassemble.models.assemble_net import AssembleNet
from labelassemble.models.backbones import Backbones
from labelassemble.models.segmentation.segment_net import SegmentNet
from labelassemble.models.segmentation.voxel_head import VoxelQueryHead
from labelassemble.models.source_heads import SourceHeads
from labelassemble.models.task_code import TaskCodeHead


class CarriedOver(NamedTuple):
    """What a network took from another.

    Attributes:
        kept: classes that the other network knew, in its order.
        added: classes that are new, in the order of the network that took over.
    """

    kept: tuple[str, ...]
    added: tuple[str, ...]


def carry_over(learnt: AssembleNet | SegmentNet, net: AssembleNet | SegmentNet) -> CarriedOver:
    """Give `net` what `learnt` has learnt, class by class by name, and return which classes it kept and added.

    The logits of the kept classes are those of `learnt`, whatever the order. New classes need the head class_query:
    each gets a query of its own (`ClassQueryHead.add_classes`).

    Args:
        learnt: the network to learn from; it is left as it is.
        net: the network to change, on the same device.

    Raises:
        LabelAssembleError: another backbone, another head, a class that `net` lacks, a new class for a head that cannot
            take one, or other sources.
    """
    if type(learnt.head) is not type(net.head) or learnt.needs_sources != net.needs_sources:
        raise LabelAssembleError(
            f"model.head must be the head of the run that it goes on from, {_kind(learnt)}, got {_kind(net)}"
        )
    for name in learnt.classes:
        if name not in net.classes:
            new = [other for other in net.classes if other not in learnt.classes]
            raise LabelAssembleError(
                f"the run that it goes on from knows the class '{name}', which the configuration does not have"
                f"{did_you_mean(name, new) if new else ''}: keep its name and a source that labels it (to take the "
                "backbone alone, give its best.pt as model.pretrained)"
            )
    added = tuple(name for name in net.classes if name not in learnt.classes)
    if added and not isinstance(net.head, ClassQueryHead):
        raise LabelAssembleError(
            f"only the head class_query can take the new class '{added[0]}', the run that it goes on from has the head "
            f"{_kind(learnt)}"
        )
    _carry_backbone(learnt, net)
    head = learnt.head
    if isinstance(head, ClassQueryHead) and isinstance(net.head, ClassQueryHead):
        _carry_queries(head, net.head, added)
    else:
        net.head.load_state_dict(head.state_dict())  # which puts the classes in order by name
    return CarriedOver(learnt.classes, added)


def train_only_added(net: AssembleNet | SegmentNet, added: tuple[str, ...]) -> None:
    """Freeze all of `net` but the queries of the classes that `carry_over` added.

    A new query comes with its own column of the shared layer, where every other query is 0: both learn, and the
    logits of the other classes stay what they are, bit for bit. This holds for an optimizer that leaves a parameter
    with a gradient of 0 alone, as Adam without weight decay.

    Raises:
        LabelAssembleError: no class was added, or the head is not class_query.
    """
    head = net.head
    if not isinstance(head, ClassQueryHead):
        raise LabelAssembleError(f"only the head class_query can learn a class alone, got {_kind(net)}")
    if not added:
        raise LabelAssembleError("no class is new, so with all others frozen nothing is left to train")
    net.freeze_backbone()
    head.bias.requires_grad_(False)
    width = head.queries.shape[1]
    rows = torch.tensor([[name in added] for name in head.classes])
    columns = torch.arange(width) >= width - len(added)
    masks = [(head.queries, rows), (head.weight, columns)]
    if isinstance(head, VoxelQueryHead):
        masks.append((head.offset, rows[:, 0]))
    for parameter, mask in masks:
        parameter.register_hook(_Masked(mask))  # type: ignore[no-untyped-call]


class _Masked:
    """A hook that leaves of a gradient what a mask has; the mask goes to the gradient's device once."""

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask

    def __call__(self, gradient: Tensor) -> Tensor:
        self._mask = self._mask.to(gradient.device)
        # where, since 0 times an overflow would be NaN
        return torch.where(self._mask, gradient, torch.zeros_like(gradient))


def _kind(net: AssembleNet | SegmentNet) -> str:
    kinds: dict[type[nn.Module], str] = {
        ClassQueryHead: "class_query",
        VoxelQueryHead: "class_query",
        TaskCodeHead: "task_code",
        SourceHeads: "multi_network" if isinstance(net.backbone, Backbones) else "source_heads",
    }
    return kinds.get(type(net.head), "linear")


def _carry_queries(learnt: ClassQueryHead, head: ClassQueryHead, added: tuple[str, ...]) -> None:
    """Give `head` what `learnt` has learnt; its parameters stay the objects that they are."""
    learnt = deepcopy(learnt)
    if added:
        learnt.add_classes(added)
    order = [learnt.classes.index(name) for name in head.classes]
    grow(head.queries, learnt.queries.detach()[order])
    grow(head.weight, learnt.weight.detach())
    grow(head.bias, learnt.bias.detach())
    if isinstance(learnt, VoxelQueryHead) and isinstance(head, VoxelQueryHead):
        known = torch.tensor(
            [name not in added for name in head.classes]
        )  # a new class begins at its own share
        grow(head.offset, torch.where(known, learnt.offset.detach()[order], head.offset.detach()))


def _carry_backbone(learnt: AssembleNet | SegmentNet, net: AssembleNet | SegmentNet) -> None:
    if {name: set(names) for name, names in learnt.sources.items()} != {
        name: set(names) for name, names in net.sources.items()
    }:
        raise LabelAssembleError(
            f"with the head {_kind(net)} the sources must be those of the run that it goes on from and label the same "
            f"classes, {_listed(learnt)}, got {_listed(net)}"
        )
    own, other = net.backbone, learnt.backbone
    try:
        if isinstance(own, Backbones) and isinstance(other, Backbones):
            for network, source in zip(own.networks, net.sources, strict=True):
                network.load_state_dict(other.networks[list(learnt.sources).index(source)].state_dict())
        else:
            own.load_state_dict(other.state_dict())
    except RuntimeError:
        raise LabelAssembleError(
            "model.backbone, views.channels and the kind of head must be those of the run that it goes on from: its "
            "weights do not fit"
        ) from None


def _listed(net: AssembleNet | SegmentNet) -> str:
    return "; ".join(f"{source}: {', '.join(names)}" for source, names in net.sources.items())
