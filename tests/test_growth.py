"""An optimizer that was made before `add_classes` goes on training the head."""

import copy
import gc
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from labelassemble.errors import LabelAssembleError
from labelassemble.functional import masked_bce_with_logits
from labelassemble.head import ClassQueryHead
from labelassemble.models import AssembleNet
from labelassemble.models.carry_over import carry_over

FEATURES = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
KINDS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, fused=True),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.1),
    "foreach": lambda m: torch.optim.Adam(m.parameters(), lr=0.1, foreach=True),
    "fused": lambda m: torch.optim.AdamW(m.parameters(), lr=0.1, fused=True, amsgrad=True),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=0.1, momentum=0.9, centered=True),
    "adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=0.1),
}


def step(head: ClassQueryHead, optimizer: Optimizer) -> torch.Tensor:
    targets = torch.ones(16, len(head.classes))
    loss = masked_bce_with_logits(head(FEATURES), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_goes_on_learning(kind: str) -> None:
    head = ClassQueryHead(6, ["Edema", "Nodule"])
    optimizer = KINDS[kind](head)
    kept = step(head, optimizer)  # a graph that is still there, as in most loops
    for more in (["Mass"], ["Cyst", "Hernia"]):
        head.add_classes(more)
        before = [parameter.detach().clone() for parameter in head.parameters()]
        kept = step(head, optimizer)
        for parameter, old in zip(head.parameters(), before, strict=True):
            assert (
                (parameter != old).flatten(1).any(1).all()
                if parameter.dim() == 2
                else (parameter != old).any()
            )
    assert kept.grad_fn is not None
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert all(any(parameter is own for own in held) for parameter in head.parameters())
    for parameter, state in optimizer.state.items():
        for value in state.values():
            assert not isinstance(value, torch.Tensor) or value.dim() == 0 or value.shape == parameter.shape


def test_what_was_learnt_and_its_momentum_are_kept() -> None:
    head = ClassQueryHead(6, ["Edema", "Nodule"])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    step(head, optimizer)
    moments = optimizer.state[head.queries]["exp_avg"].clone()
    head.queries.grad = torch.ones_like(head.queries)
    head.add_classes(["Mass"])
    assert head.queries.grad is not None
    assert torch.equal(head.queries.grad, torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 0]]))
    head.queries.grad = head.weight.grad = head.bias.grad = None
    head.queries.grad = torch.zeros_like(head.queries)
    optimizer.step()
    after = optimizer.state[head.queries]["exp_avg"]
    torch.testing.assert_close(after[:2, :2], 0.9 * moments)
    assert not after[2].any()
    assert not after[:, 2].any()


def test_a_state_that_cannot_grow_is_refused_with_a_sentence() -> None:
    head = ClassQueryHead(6, ["Edema", "Nodule"])
    optimizer = torch.optim.Adafactor(head.parameters(), lr=0.1)
    step(head, optimizer)
    head.add_classes(["Mass"])
    with pytest.raises(
        LabelAssembleError, match=r"Adafactor keeps 'row_var' of shape .* make the optimizer anew"
    ):
        step(head, optimizer)
    step(head, torch.optim.Adafactor(head.parameters(), lr=0.1))


def test_nothing_is_left_behind_by_a_head_that_is_gone() -> None:
    before = len(torch_optimizer._global_optimizer_pre_hooks)
    head = ClassQueryHead(6, ["Edema"])
    head.add_classes(["Mass"])
    assert len(torch_optimizer._global_optimizer_pre_hooks) > before
    del head
    gc.collect()
    other = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    optimizer.step()
    assert len(torch_optimizer._global_optimizer_pre_hooks) <= before


def test_carrying_over_keeps_the_parameters_of_the_network() -> None:
    learnt = AssembleNet("cnn_small", classes=["Edema", "Nodule"])
    net = AssembleNet("cnn_small", classes=["Nodule", "Mass", "Edema"])
    own = list(net.parameters())
    before = copy.deepcopy(learnt)
    carry_over(learnt, net)
    assert all(one is other for one, other in zip(net.parameters(), own, strict=True))
    images = torch.randn(2, 1, 8, 8)
    net.eval()
    torch.testing.assert_close(net(images)[:, [2, 0]], before.eval()(images))
