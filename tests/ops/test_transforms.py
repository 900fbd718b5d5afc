"""The loss and the head under torch.func, second derivatives, torch.fx, torch.compile and as subclasses of tensors."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from labelassemble import ClassQueryHead, MaskedBCEWithLogitsLoss, PartialLabelLoss, _extension
from labelassemble.functional import (
    masked_bce_with_logits,
    partial_label_loss,
    pooled_class_query_logits,
)
from labelassemble.ops.partial_label_loss import reference

NAN = float("nan")


def batch(
    dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (3, 4)
) -> tuple[Tensor, Tensor, Tensor]:
    weak, strong = torch.randn(2, *shape, dtype=dtype).unbind()
    targets = torch.rand(shape, dtype=dtype)
    targets.view(-1)[::3] = NAN
    return weak, strong, targets


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "through the target": {"detach_target": False},
    "sum, weights": {"reduction": "sum", "pseudo_weight": 0.3, "consistency_weight": 2.0},
    "entries": {"reduction": "none", "temperature": 1.0, "detach_target": False},
    "no sharpening": {"temperature": float("inf"), "detach_target": False},
    "known alone": {"pseudo_weight": 0.0, "consistency_weight": 0.0},
    "by class": {
        "pos_weight": torch.tensor([1.0, 2.0, 0.0, 0.5]).double(),
        "class_weight": torch.tensor([1.0, 0.0, 3.0, 0.5]).double(),
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_first_and_second_derivatives(options: dict[str, Any]) -> None:
    weak, strong, targets = batch()

    def loss(weak: Tensor, strong: Tensor) -> Tensor:
        return partial_label_loss(weak, strong, targets, **options)

    views = (weak.requires_grad_(), strong.requires_grad_())
    if (
        not options.get("detach_target", True) or options.get("pseudo_weight") == 0
    ):  # else a target moves, unseen
        assert torch.autograd.gradcheck(loss, views, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(loss, views)
    first = torch.autograd.grad(loss(*views).sum(), views, create_graph=True, allow_unused=True)
    want = torch.autograd.grad(
        reference(*views, targets, **options)[0].sum(), views, create_graph=True, allow_unused=True
    )
    for ours, theirs in zip(first, want, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs)
    second = torch.autograd.grad(sum(x.pow(2).sum() for x in first if x is not None), weak)[0]
    wanted = torch.autograd.grad(sum(x.pow(2).sum() for x in want if x is not None), weak)[0]
    torch.testing.assert_close(second, wanted)


@pytest.mark.parametrize("integer", [False, True])
def test_second_derivative_at_logits_that_saturate(integer: bool) -> None:
    weak = torch.tensor([[-200.0, 200.0, 0.5, -torch.inf]], requires_grad=True)
    targets = torch.tensor([[0, 1, -1, -1]])
    first = partial_label_loss(weak, None, targets if integer else targets.float().where(targets >= 0, NAN))
    (gradient,) = torch.autograd.grad(first, weak, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), weak)
    assert bool(gradient.isfinite().all())
    assert bool(second.isfinite().all())


def test_a_penalty_on_the_gradient_trains() -> None:
    images, targets = torch.randn(6, 5, requires_grad=True), torch.tensor([[1, -1, 0]] * 6)
    head = ClassQueryHead(5, 3)
    loss = PartialLabelLoss()(head(images), None, targets)
    (slope,) = torch.autograd.grad(loss, images, create_graph=True)
    (loss + slope.pow(2).sum()).backward()
    assert head.weight.grad is not None
    assert bool(head.weight.grad.isfinite().all())


def per_sample(loss: Callable[..., Tensor]) -> None:
    weak, strong, targets = batch(torch.float32)
    gradients = torch.func.vmap(torch.func.grad(lambda w, s, t: loss(w[None], s[None], t[None])))(
        weak, strong, targets
    )
    for index in range(len(weak)):
        row = weak[index : index + 1].clone().requires_grad_()
        loss(row, strong[index : index + 1], targets[index : index + 1]).backward()
        torch.testing.assert_close(gradients[index], row.grad[0] if row.grad is not None else None)


def test_gradients_of_each_sample() -> None:
    per_sample(PartialLabelLoss(pos_weight=[1.0, 2.0, 3.0, 4.0]))
    per_sample(lambda weak, _, targets: MaskedBCEWithLogitsLoss()(weak, targets))
    per_sample(PartialLabelLoss(strong_known=True))


def test_transforms_of_torch_func() -> None:
    weak, strong, targets = batch(torch.float32)
    entries = PartialLabelLoss(reduction="none")
    want = torch.autograd.functional.jacobian(
        lambda z: reference(z, strong, targets, reduction="none")[0], weak
    )
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(entries)(weak, strong, targets), want)
    torch.testing.assert_close(
        torch.func.hessian(PartialLabelLoss())(weak, strong, targets),
        torch.autograd.functional.hessian(lambda z: reference(z, strong, targets)[0], weak),
    )
    with pytest.raises(RuntimeError, match="functorch"):  # the op itself says so, rather than be wrong
        torch.func.grad(lambda z: torch.ops.labelassemble.partial_label_loss(z, strong, targets))(weak)
    head = ClassQueryHead(5, 3)
    features = torch.randn(6, 5)
    torch.testing.assert_close(torch.func.vmap(head)(features), head(features))
    maps = torch.randn(2, 4, 5, 3)
    assert torch.func.vmap(head.from_feature_map)(maps).shape == (2, 4, 3)


def test_targets_and_weights_may_have_gradients() -> None:
    logits, targets = torch.randn(2, 3).double(), torch.rand(2, 3).double().requires_grad_()
    weight = torch.rand(3).double()
    ours = masked_bce_with_logits(logits, targets, pos_weight=weight)
    theirs = nn.functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, targets), torch.autograd.grad(theirs, targets))
    assert torch.autograd.gradcheck(
        lambda w: masked_bce_with_logits(logits, targets.detach(), pos_weight=w, class_weight=w),
        weight.requires_grad_(),
    )
    with torch.no_grad():
        targets[0, 0] = NAN
    masked_bce_with_logits(logits, targets).backward()
    assert targets.grad is not None
    assert targets.grad[0, 0] == 0


def test_symbolic_trace_of_head_and_losses() -> None:
    features, targets = torch.randn(4, 5), torch.tensor([[1, 0, -1]] * 4)
    head = ClassQueryHead(5, ["a", "b", "c"])
    traced = torch.fx.symbolic_trace(head)
    torch.testing.assert_close(traced(features), head(features))
    torch.testing.assert_close(traced(features, ["c", "a"]), head(features, classes=["c", "a"]))
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(5, 5), head))
    assert torch.equal(model(features), model(features.clone()))
    maps = torch.fx.symbolic_trace(_Pooled(head))
    image = torch.randn(2, 5, 3)
    torch.testing.assert_close(
        maps(image), pooled_class_query_logits(image, head.queries, head.weight, head.bias)
    )
    logits = torch.randn(4, 3)
    for loss, given in (
        (PartialLabelLoss(), (logits, None, targets)),
        (PartialLabelLoss(), (logits, 2 * logits, targets)),
        (MaskedBCEWithLogitsLoss(pos_weight=2.0), (logits, targets)),
    ):
        graph = torch.fx.symbolic_trace(loss)
        assert torch.equal(graph(*given), loss(*given))
        with pytest.raises(RuntimeError, match="traced takes no counts"):
            graph(*given, counts=(1.0, 1.0))


class _Pooled(nn.Module):
    def __init__(self, head: ClassQueryHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, feature_map: Tensor) -> Tensor:
        return self.head.from_feature_map(feature_map)


@pytest.mark.parametrize(
    "options", [{}, {"strong_known": True}, {"known_mean": "class"}, {"exclusive": 1 - torch.eye(4)}]
)
@pytest.mark.parametrize("with_strong", [True, False])
def test_a_schedule_of_weights_compiles_once(options: dict[str, Any], with_strong: bool) -> None:
    torch._dynamo.reset()
    graphs = 0

    def backend(graph: Any, _: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph

    if "exclusive" in options:
        options = {"exclusive": options["exclusive"].bool()}
    weak, strong, targets = batch(torch.float32)
    loss = PartialLabelLoss(**options)
    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    for step in range(12):
        loss.pseudo_weight, loss.consistency_weight = step / 12, max(0, step - 3) / 12
        views = [view.clone().requires_grad_() for view in (weak, strong)]
        second = views[1] if with_strong else None
        got, want = compiled(views[0], second, targets), loss(views[0], second, targets)
        torch.testing.assert_close(got, want)
        ours, theirs = (torch.autograd.grad(x, views, allow_unused=True) for x in (got, want))
        torch.testing.assert_close(ours[0], theirs[0])
        if ours[1] is not None:
            torch.testing.assert_close(ours[1], torch.zeros_like(weak) if theirs[1] is None else theirs[1])
    assert graphs == 1


def test_a_schedule_of_weights_compiles_once_without_the_native_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("_binding", None), ("NATIVE", False), ("_warned", True)):
        monkeypatch.setattr(_extension, name, value)
    test_a_schedule_of_weights_compiles_once({}, True)


def test_compiled_with_autograd_traced_too() -> None:
    torch._dynamo.reset()
    weak, strong, targets = batch(torch.float32)
    weak.requires_grad_()
    strong.requires_grad_()
    loss = PartialLabelLoss(class_weight=[1.0, 2.0, 0.5, 1.0], detach_target=False)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for value in (0.25, 0.0, 1.5):
        loss.pseudo_weight = loss.consistency_weight = value
        torch.testing.assert_close(compiled(weak, strong, targets), loss(weak, strong, targets))
        ours = torch.autograd.grad(compiled(weak, strong, targets), [weak, strong])
        theirs = torch.autograd.grad(loss(weak, strong, targets), [weak, strong], materialize_grads=True)
        torch.testing.assert_close(ours, theirs)


def test_weights_may_be_tensors() -> None:
    weak, strong, targets = batch()
    half = torch.tensor(0.5, requires_grad=True)
    ours = partial_label_loss(weak, strong, targets, pseudo_weight=half, consistency_weight=half)
    assert ours.item() == pytest.approx(
        partial_label_loss(weak, strong, targets, pseudo_weight=0.5, consistency_weight=0.5).item()
    )
    ours.backward()
    assert half.grad is not None
    assert half.grad.item() > 0
    assert torch.equal(
        partial_label_loss(weak, strong, targets, pseudo_weight=half.detach()),
        partial_label_loss(weak, strong, targets, pseudo_weight=0.5),
    )


# Whoever lets a group go waits for its threads, which may be waiting for Python's lock.
_left: list[object] = []


@pytest.fixture
def alone(unused_port: int) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{unused_port}", rank=0, world_size=1)
    yield
    _left.append(dist.group.WORLD)
    dist.destroy_process_group()


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("with_loss", [False, True], ids=["head", "head and loss"])
def test_activations_are_computed_again_in_backward(with_loss: bool) -> None:
    head, criterion = ClassQueryHead(4, 3), PartialLabelLoss()
    features, _, _ = batch(torch.float32)
    targets = torch.tensor([[1.0, NAN, 0.0]]).repeat(3, 1)

    def network(features: Tensor) -> Tensor:
        logits: Tensor = head(features)
        return criterion(logits, head(1.1 * features), targets) if with_loss else logits.square().sum()

    inputs = (features.requires_grad_(), *head.parameters())
    want = torch.autograd.grad(network(features), inputs)
    for again in (
        False,
        True,
    ):  # torch ends the second forward early, by an exception out of a hook, or by hand
        loss = checkpoint(network, features, use_reentrant=False, early_stop=not again)
        torch.testing.assert_close(torch.autograd.grad(loss, inputs), want)


def test_what_a_hook_of_saved_tensors_raises_reaches_its_user() -> None:
    def refuse(saved: Tensor) -> Tensor:
        raise KeyError("no room")

    weak, strong, targets = batch()
    weak.requires_grad_()
    calls: list[Callable[[], Tensor]] = [
        lambda: partial_label_loss(weak, strong, targets),
        lambda: masked_bce_with_logits(weak, targets),
        lambda: ClassQueryHead(4, 2).double()(weak),
    ]
    for call in calls:
        with (
            torch.autograd.graph.saved_tensors_hooks(refuse, lambda saved: saved),
            pytest.raises(KeyError, match="no room"),
        ):
            call()


@pytest.mark.filterwarnings("ignore::UserWarning")  # DTensor's own
def test_distributed_tensors(alone: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    weak, strong, targets = batch(torch.float32)
    want = torch.autograd.grad(partial_label_loss(weak.requires_grad_(), strong, targets), weak)[0]
    for placement in (Shard(0), Replicate()):
        parts = [distribute_tensor(x.detach(), mesh, [placement]) for x in (weak, strong, targets)]
        parts[0].requires_grad_()
        loss = PartialLabelLoss()(*parts)
        torch.testing.assert_close(loss.full_tensor(), partial_label_loss(weak, strong, targets))
        loss.backward()
        torch.testing.assert_close(parts[0].grad.full_tensor(), want)
        head = ClassQueryHead(4, 2)
        shared = distribute_tensor(weak.detach(), mesh, [placement])
        queries, weight, bias = (
            distribute_tensor(x.detach(), mesh, [Replicate()]) for x in (head.queries, head.weight, head.bias)
        )
        from labelassemble.functional import class_query_logits

        torch.testing.assert_close(
            class_query_logits(shared, queries, weight, bias).full_tensor(), head(weak.detach())
        )
    assert os.environ.get("WORLD_SIZE", "1") == "1"
    # The ops themselves have no rule for shards: torch says so, rather than that they take a shard for the whole.
    ops = torch.ops.labelassemble
    rivals = distribute_tensor(torch.ones(4, 4, dtype=torch.bool), mesh, [Replicate()])
    for call in (
        lambda: ops.partial_label_loss(*parts),
        lambda: ops.partial_label_loss_terms(*parts),
        lambda: ops.masked_bce_with_logits(parts[0], parts[2]),
        lambda: ops.class_sums(parts[0], parts[2]),
        lambda: ops.excluded(parts[0], parts[2], rivals),
        lambda: ops.relu_mean(parts[0][..., None]),
    ):
        with pytest.raises(NotImplementedError, match=r"Operator labelassemble\..* sharding strategy"):
            call()
