"""Going on from what another network has learnt: classes by name, and what stays bit for bit."""

import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.head import ClassQueryHead
from labelassemble.models import AssembleNet
from labelassemble.models.carry_over import carry_over, train_only_added

SOURCES = {"a": ["Edema", "Mass"], "b": ["Mass", "Nodule"]}
IMAGES = torch.linspace(-2, 2, 4 * 256).view(4, 1, 16, 16)


def _net(*classes: str, head: str = "class_query", **changes: object) -> AssembleNet:
    arguments = {"classes": classes, "head": head, "sources": SOURCES, **changes}
    return AssembleNet("densenet_small", **arguments)  # type: ignore[arg-type]


def _learnt(*classes: str, head: str = "class_query", **changes: object) -> AssembleNet:
    """A network as training leaves it: every parameter moved, norms with statistics."""
    net = _net(*classes, head=head, **changes)
    with torch.no_grad():
        net(torch.randn(8, 1, 16, 16))
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return net.eval()


def test_known_classes_answer_as_before_wherever_they_stand() -> None:
    learnt = _learnt("Edema", "Mass", "Nodule")
    net = _net("COVID-19", "Nodule", "Edema", "Hernia", "Mass")
    carried = carry_over(learnt, net)
    assert carried == (("Edema", "Mass", "Nodule"), ("COVID-19", "Hernia"))
    net.eval()
    torch.testing.assert_close(net(IMAGES)[:, [2, 4, 1]], learnt(IMAGES), rtol=0, atol=1e-6)
    assert isinstance(net.head, ClassQueryHead)
    assert tuple(net.head.classes) == net.classes
    torch.testing.assert_close(
        net.head(net.backbone(IMAGES), classes=["Mass"]), learnt(IMAGES)[:, 1:2], rtol=0, atol=1e-6
    )
    other = _net(*net.classes)
    other.load_state_dict(net.state_dict())  # as a network of a checkpoint is made
    assert torch.equal(other.eval()(IMAGES), net(IMAGES))


def test_a_new_query_learns_alone_and_the_others_stay_bit_for_bit() -> None:
    net = _net("Hernia", "Mass", "Edema", "COVID-19")
    carried = carry_over(_learnt("Edema", "Mass"), net)
    train_only_added(net, carried.added)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    logits = net.eval()(IMAGES)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert len(trained) == 2
    optimizer = torch.optim.Adam(trained, lr=1e-2)
    net.train()
    for _ in range(5):
        loss = torch.nn.functional.softplus(-net(torch.randn(8, 1, 16, 16))).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    after = net.eval()(IMAGES)
    assert torch.equal(after[:, 1:3], logits[:, 1:3])
    assert bool((after[:, [0, 3]] != logits[:, [0, 3]]).all())
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"head.queries", "head.weight"}
    assert torch.equal(net.head.queries[1:3], before["head.queries"][1:3])
    assert torch.equal(net.head.weight[:, :2], before["head.weight"][:, :2])


def test_a_frozen_backbone_keeps_its_statistics_and_gets_no_gradient() -> None:
    net = _learnt("Edema", "Mass").train()
    net.freeze_backbone()
    before = {key: value.clone() for key, value in net.backbone.state_dict().items()}
    net.train()
    assert net.training
    assert not net.backbone.training
    net(torch.randn(8, 1, 16, 16)).sum().backward()
    assert all(parameter.grad is None for parameter in net.backbone.parameters())
    assert all(parameter.grad is not None for parameter in net.head.parameters())
    assert all(torch.equal(value, before[key]) for key, value in net.backbone.state_dict().items())


@pytest.mark.parametrize("head", ["class_query", "linear", "task_code", "source_heads", "multi_network"])
def test_the_same_classes_in_another_order_answer_the_same(head: str) -> None:
    learnt = _learnt("Edema", "Mass", "Nodule", head=head)
    net = _net(
        "Nodule", "Edema", "Mass", head=head, sources={"b": ["Nodule", "Mass"], "a": ["Mass", "Edema"]}
    )
    assert carry_over(learnt, net).added == ()
    torch.testing.assert_close(net.eval()(IMAGES)[:, [1, 2, 0]], learnt(IMAGES), rtol=0, atol=1e-6)


def test_what_does_not_fit_is_named() -> None:
    learnt = _learnt("Edema", "Mass")
    with pytest.raises(LabelAssembleError, match=r"knows the class 'Edema', .* did you mean 'Oedema'"):
        carry_over(learnt, _net("Mass", "Oedema"))
    with pytest.raises(LabelAssembleError, match=r"'Edema', which the configuration does not have: keep"):
        carry_over(learnt, _net("Mass"))
    with pytest.raises(LabelAssembleError, match=r"must be the head of the run .*, class_query, got linear"):
        carry_over(learnt, _net("Edema", "Mass", head="linear"))
    with pytest.raises(LabelAssembleError, match=r"class_query can take the new class 'Hernia', .* linear"):
        carry_over(_learnt("Edema", head="linear"), _net("Edema", "Hernia", head="linear"))
    with pytest.raises(LabelAssembleError, match="weights do not fit"):
        carry_over(learnt, _net("Edema", "Mass", in_channels=3))
    with pytest.raises(
        LabelAssembleError, match=r"sources must be those of the run .* a: Edema; b: Mass, got a: Mass"
    ):
        carry_over(
            _learnt("Edema", "Mass", head="source_heads", sources={"a": ["Edema"], "b": ["Mass"]}),
            _net("Edema", "Mass", head="source_heads", sources={"a": ["Mass"], "b": ["Edema"]}),
        )
    with pytest.raises(LabelAssembleError, match="no class is new"):
        train_only_added(learnt, ())
    with pytest.raises(
        LabelAssembleError, match="only the head class_query can learn a class alone, got task_code"
    ):
        train_only_added(_net("Edema", head="task_code"), ("Edema",))
