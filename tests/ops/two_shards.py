"""What two processes check of DTensors, each of which has a shard: begun by test_sharded.py."""

import json
import os
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Placement,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)

from labelassemble.errors import LabelAssembleError
from labelassemble.functional import excluded, global_counts
from labelassemble.head import ClassQueryHead
from labelassemble.loss import MaskedBCEWithLogitsLoss, PartialLabelLoss

BATCH, CLASSES = 5, 3  # neither of them even, so that shards differ in size
RIVALS = ~torch.eye(CLASSES, dtype=torch.bool)


class Images(NamedTuple):
    """Logits of two views and the targets of a batch."""

    weak: Tensor  # [B, C, *spatial]
    strong: Tensor  # [B, C, *spatial]
    targets: Tensor  # [B, C, *spatial]


def images(*spatial: int) -> Images:
    """Return a batch that each process makes alike; of its labels about a third are unknown."""
    random = torch.Generator().manual_seed(3)
    shape = (BATCH, CLASSES, *spatial)
    weak, strong = (torch.randn(shape, generator=random) for _ in range(2))
    labels = torch.randint(-1, 2, shape, generator=random).float()
    return Images(weak, strong, labels.masked_fill(labels < 0, torch.nan))


def full(tensor: Tensor | None) -> Tensor:
    """Return a DTensor whole."""
    assert isinstance(tensor, DTensor)
    return tensor.full_tensor()


def spread(mesh: DeviceMesh, head: ClassQueryHead) -> ClassQueryHead:
    """Make the parameters DTensors that each process has whole."""
    distribute_module(head, mesh)
    return head


def load(head: ClassQueryHead, of: ClassQueryHead) -> None:
    """Load the weights of a plain head, as torch does that for DTensors."""
    set_model_state_dict(head, of.state_dict(), options=StateDictOptions(full_state_dict=True))


def compare(
    mesh: DeviceMesh, loss: Callable[..., Tensor], batch: Images, placements: list[Placement]
) -> None:
    """Hold the loss and the gradients of both views against those of plain tensors."""
    plain = [view.clone().requires_grad_() for view in batch[:2]]
    want = loss(*plain, batch.targets)
    want.sum().backward()
    shards = [distribute_tensor(view, mesh, placements).requires_grad_() for view in batch[:2]]
    got = loss(*shards, distribute_tensor(batch.targets, mesh, placements))
    torch.testing.assert_close(full(got), want)
    got.sum().backward()
    for shard, view in zip(shards, plain, strict=True):
        if view.grad is not None and bool(view.grad.any()):
            torch.testing.assert_close(full(shard.grad), view.grad)
        else:
            assert shard.grad is None or not bool(full(shard.grad).any())


LOSSES: dict[str, Callable[..., Tensor]] = {
    "mean": PartialLabelLoss(),
    "sum": PartialLabelLoss(reduction="sum"),
    "none": PartialLabelLoss(reduction="none"),
    "no strong view": PartialLabelLoss(consistency_weight=0),
    "weights of classes": PartialLabelLoss(pos_weight=[1, 2, 3], class_weight=[1, 0.5, 2]),
    "one weight": PartialLabelLoss(pos_weight=2.0),
    "rivals": PartialLabelLoss(exclusive=RIVALS),
    "mean by class": PartialLabelLoss(known_mean="class"),
    "both views": PartialLabelLoss(strong_known=True),
    "moving target": PartialLabelLoss(detach_target=False),
    "not validated": PartialLabelLoss(validate=False),
    "masked": lambda weak, strong, targets: MaskedBCEWithLogitsLoss(pos_weight=[1, 2, 3])(weak, targets),
    "counts": lambda *batch: PartialLabelLoss()(*batch, counts=global_counts(batch[2])),
    "counts by class": lambda *batch: PartialLabelLoss(known_mean="class")(
        *batch, counts=global_counts(batch[2])
    ),
}


def check_losses(mesh: DeviceMesh) -> None:
    for name, loss in LOSSES.items():
        for placement in (Shard(0), Shard(1), Replicate()):
            try:
                compare(mesh, loss, images(), [placement])
            except Exception as error:
                raise AssertionError(f"{name}, {placement}") from error


def check_layouts(mesh: DeviceMesh) -> None:
    for placement in (Shard(0), Shard(2), Shard(3)):
        compare(mesh, PartialLabelLoss(pos_weight=[1, 2, 3]), images(4, 3), [placement])
    one = Images(*(part[:, 0] for part in images()))
    compare(mesh, PartialLabelLoss(), one, [Shard(0)])
    batch = images()
    whole_numbers = Images(batch.weak, batch.strong, batch.targets.nan_to_num(-1).long())
    compare(mesh, PartialLabelLoss(), whole_numbers, [Shard(0)])
    compare(
        mesh, PartialLabelLoss(), Images(*(part[:1] for part in batch)), [Shard(0)]
    )  # one process has nothing
    plane = init_device_mesh("cpu", (2, 1))
    compare(plane, PartialLabelLoss(pos_weight=[1, 2, 3]), batch, [Shard(0), Shard(1)])


def check_views_that_lie_differently(mesh: DeviceMesh) -> None:
    batch = images()
    parts = [
        distribute_tensor(part, mesh, [place])
        for part, place in zip(batch, (Shard(0), Replicate(), Shard(1)), strict=True)
    ]
    torch.testing.assert_close(full(PartialLabelLoss()(*parts)), PartialLabelLoss()(*batch))
    # Logits of a head whose features are sharded are sums that nobody has added up yet.
    shares = DTensor.from_local(batch.weak / 2, mesh, [Partial()], run_check=False).requires_grad_()
    loss = PartialLabelLoss()(shares, *parts[1:])
    torch.testing.assert_close(full(loss), PartialLabelLoss()(*batch))
    loss.backward()
    want = torch.autograd.grad(
        PartialLabelLoss()(plain := batch.weak.clone().requires_grad_(), *batch[1:]), plain
    )
    torch.testing.assert_close(full(shares.grad), want[0])


def check_terms(mesh: DeviceMesh) -> None:
    batch = images()
    for reduction in ("mean", "sum"):
        criterion = PartialLabelLoss(reduction=reduction)
        got = criterion.terms(*(distribute_tensor(part, mesh, [Shard(0)]) for part in batch))
        for name, value in criterion.terms(*batch)._asdict().items():
            torch.testing.assert_close(full(getattr(got, name)), value, msg=name)


def check_counts(mesh: DeviceMesh) -> None:
    targets = images().targets
    counts = global_counts(distribute_tensor(targets, mesh, [Shard(0)]))
    assert float(counts.known) == int((~targets.isnan()).sum())
    assert float(counts.unknown) == int(targets.isnan().sum())
    twice = global_counts(distribute_tensor(targets, mesh, [Shard(0)]), dist.group.WORLD, divided_by=1)
    assert float(twice.known) == 2 * float(counts.known)  # as if each process had another batch


def check_second_derivatives(mesh: DeviceMesh) -> None:
    if torch.__version__ < "2.13":  # DTensor.to_local of torch 2.11 has none
        return

    def twice(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
        weak = weak.double().requires_grad_()
        loss = PartialLabelLoss()(weak, strong.double(), targets)
        (slope,) = torch.autograd.grad(loss, weak, create_graph=True)
        (second,) = torch.autograd.grad(slope.pow(2).sum(), weak)
        return second

    batch = images()
    got = twice(*(distribute_tensor(part, mesh, [Shard(0)]) for part in batch))
    torch.testing.assert_close(full(got), twice(*batch))


def check_rivals_by_image(mesh: DeviceMesh) -> None:
    batch = images()
    by_image = RIVALS & (torch.arange(BATCH) % 2 == 0)[:, None, None]
    want = excluded(batch.weak, batch.targets, by_image)
    assert bool(want.any())
    for placement in (Shard(0), Shard(1), Replicate()):
        weak, targets = (distribute_tensor(part, mesh, [placement]) for part in (batch.weak, batch.targets))
        for rivals in (by_image, distribute_tensor(by_image, mesh, [Shard(0)])):
            assert torch.equal(full(excluded(weak, targets, rivals)), want)


def check_what_is_refused(mesh: DeviceMesh) -> None:
    batch = images()
    weak, strong, targets = (distribute_tensor(part, mesh, [Shard(0)]) for part in batch)
    for arguments, reason in (
        ((weak, strong, batch.targets), "targets must be a DTensor, as logits_weak is, got Tensor"),
        ((weak, batch.strong, targets), "logits_strong must be a DTensor, as logits_weak is"),
        ((weak, strong, targets[:, :2]), "targets must have the shape of logits_weak"),
    ):
        expect(RuntimeError, reason, PartialLabelLoss(), *arguments)
    wrong = batch.targets.clone()
    wrong[-1, 0] = 2  # in the second process's shard
    wrong_shards = distribute_tensor(wrong, mesh, [Shard(0)])
    reason = "targets must lie in" if mesh.get_rank() else "another process of the mesh has refused its part"
    expect(RuntimeError, reason, PartialLabelLoss(), weak, strong, wrong_shards)
    head = spread(mesh, ClassQueryHead(4, ["a", "b"]))
    expect(LabelAssembleError, "add classes before fully_shard", head.add_classes, ["c"])


def expect(kind: type[Exception], reason: str, call: Callable[..., Any], *arguments: Any) -> None:
    """Call, and hold what it raises against what it must."""
    with pytest.raises(kind, match=reason):
        call(*arguments)


def gradients(module: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return the gradients of the inputs and of the parameters."""
    return [grad for grad in (inputs.grad, *(each.grad for each in module.parameters())) if grad is not None]


def check_heads(mesh: DeviceMesh) -> None:
    random = torch.Generator().manual_seed(5)
    for of_map, shape in ((False, (BATCH, 6)), (False, (4, 2, 6)), (True, (BATCH, 6, 4, 4))):
        features = torch.randn(shape, generator=random)
        torch.manual_seed(7)
        plain = ClassQueryHead(6, ["a", "b", "c"])
        shared = spread(mesh, ClassQueryHead(6, ["a", "b", "c"]))
        load(shared, plain)
        if not of_map:  # names in another order, as in any state dict
            other = ClassQueryHead(6, ["c", "a", "b"])
            other.load_state_dict(plain.state_dict())
            load(shared, other)
        # Not over the tokens of [B, N, D], which nn.Linear of torch 2.11 does not take either.
        for placement in (Shard(0), Replicate() if len(shape) == 3 else Shard(1), Replicate()):
            whole = features.clone().requires_grad_()
            part = distribute_tensor(features, mesh, [placement]).requires_grad_()
            forward, of_shards = ((head.from_feature_map if of_map else head) for head in (plain, shared))
            torch.testing.assert_close(full(of_shards(part, ["b"])), forward(whole, ["b"]))
            plain.zero_grad()
            shared.zero_grad()
            want, got = forward(whole), of_shards(part)
            torch.testing.assert_close(full(got), want)
            want.pow(2).sum().backward()
            got.pow(2).sum().backward()
            pairs = zip(gradients(plain, whole), gradients(shared, part), strict=True)
            for mine, sharded in pairs:
                torch.testing.assert_close(full(sharded), mine)
        torch.testing.assert_close(shared.to_linear().weight, plain.to_linear().weight)
        torch.testing.assert_close(shared.similarity(), plain.similarity())
    shared.reset_parameters()
    assert torch.equal(full(shared.queries), torch.eye(3))
    assert float(full(shared.weight).abs().max()) <= 6**-0.5


def check_a_step_of_training(mesh: DeviceMesh) -> None:
    """The head and the loss together, features and labels sharded over the batch, as one process trains."""
    batch, features = images(), torch.randn(BATCH, 6, generator=torch.Generator().manual_seed(9))
    torch.manual_seed(7)
    plain = ClassQueryHead(6, CLASSES)
    shared = spread(mesh, ClassQueryHead(6, CLASSES))
    load(shared, plain)
    for head, place in ((plain, lambda x: x), (shared, lambda x: distribute_tensor(x, mesh, [Shard(0)]))):
        optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
        for _ in range(3):
            logits = head(place(features))
            PartialLabelLoss(pos_weight=[1, 2, 3])(
                logits, head(place(features + 0.1)), place(batch.targets)
            ).backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, value in plain.named_parameters():
        torch.testing.assert_close(full(shared.get_parameter(name)), value)


CHECKS = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def begin(folder: Path, rank: int, port: int) -> None:
    """Be one of the two, in a process of its own; what went wrong is written to FOLDER/RANK.json by check."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    found: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DTensor's own
        for name, check in CHECKS.items():
            try:
                check(mesh)
                found[name] = ""
            except Exception:
                found[name] = traceback.format_exc()
            (folder / f"{rank}.json").write_text(json.dumps(found))
            if found[name]:
                os._exit(0)  # the two are no longer in step
    os._exit(0)
