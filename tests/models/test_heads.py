"""The heads that ClassQueryHead is compared with: shapes, parameters, what learns from what, TorchScript."""

import io
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.head import ClassQueryHead
from labelassemble.models import AssembleNet, ModelOptions
from labelassemble.models.backbones import Backbones
from labelassemble.models.source_heads import SourceHeads
from labelassemble.models.task_code import TaskCodeHead
from labelassemble.training.start import start_network

CLASSES = ["Edema", "Nodule", "COVID-19"]
SOURCES = {"nih": ["Nodule", "Edema"], "covidx": ["COVID-19"], "local": ["Nodule", "COVID-19"]}
HEADS = ("class_query", "linear", "multi_network", "source_heads", "task_code")
D = 120  # of densenet_small


def _net(head: str, **changes: object) -> AssembleNet:
    arguments = {"classes": CLASSES, "head": head, "sources": SOURCES, **changes}
    return AssembleNet("densenet_small", **arguments)  # type: ignore[arg-type]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _learnt(module: nn.Module) -> bool:
    """Whether any gradient of the module is not zero."""
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_every_head_answers_every_class(head: str) -> None:
    net = _net(head)
    images = torch.randn(4, 1, 16, 16)
    logits = net(images, torch.tensor([0, 1, 2, -1]))
    assert logits.shape == (4, 3)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    assert _learnt(net.backbone)
    assert _learnt(net.head)
    assert net.eval()(images).shape == (4, 3)
    assert net(images[:0]).shape == (0, 3)


@pytest.mark.parametrize("head", HEADS)
def test_scripted_gives_what_eager_gives(head: str) -> None:
    net = _net(head)
    with torch.no_grad():
        net(torch.randn(16, 1, 16, 16))  # statistics of a batch
    net.eval()
    images = torch.randn(3, 1, 16, 16)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(net), buffer)
    buffer.seek(0)
    torch.testing.assert_close(torch.jit.load(buffer)(images), net(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_state_goes_to_a_network_made_of_the_same_names(head: str) -> None:
    net, other = _net(head).eval(), _net(head).eval()
    images = torch.randn(3, 1, 16, 16)
    assert not torch.equal(net(images), other(images))
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(images), other(images))


def test_parameters_are_as_many_as_counted_by_hand() -> None:
    backbone = _count(_net("linear").backbone)
    for head, backbones, parameters in (
        ("class_query", 1, 3 * 3 + D * 3 + D),
        ("linear", 1, 3 * D + 3),
        ("source_heads", 1, (2 + 1 + 2) * (D + 1)),
        ("multi_network", 3, (2 + 1 + 2) * (D + 1)),
        # 8 channels of the features; the controller gives 8*8 + 8*8 + 8 weights and 8 + 8 + 1 biases.
        ("task_code", 1, (D + 1) * 8 + (D + 3 + 1) * (64 + 64 + 8 + 8 + 8 + 1)),
    ):
        net = _net(head)
        assert _count(net.head) == parameters, head
        assert _count(net.backbone) == backbones * backbone, head


@pytest.mark.parametrize("head", ["multi_network", "source_heads"])
def test_an_image_teaches_its_own_source_alone(head: str) -> None:
    net = _net(head)
    sources = torch.tensor([1, 1, 1])  # covidx, which labels COVID-19
    logits = net(torch.randn(3, 1, 16, 16), sources)
    assert torch.equal(logits[:, :2], torch.zeros(3, 2))
    assert bool((logits[:, 2] != 0).all())
    logits.square().sum().backward()
    assert isinstance(net.head, SourceHeads)
    rows = net.head.linear.weight.grad
    assert rows is not None
    assert net.head.source_of.tolist() == [0, 0, 1, 2, 2]
    assert (rows.abs().sum(dim=1) > 0).tolist() == [False, False, True, False, False]
    if head == "multi_network":
        assert [_learnt(network) for network in net.backbone.networks] == [False, True, False]


def test_networks_see_no_other_sources_images_in_their_norms() -> None:
    net = _net("multi_network")
    before = [{key: value.clone() for key, value in n.state_dict().items()} for n in net.backbone.networks]
    own = torch.randn(4, 1, 16, 16)
    with torch.no_grad():
        mixed = net(torch.cat([own, 9 + torch.randn(4, 1, 16, 16)]), torch.tensor([0] * 4 + [2] * 4))
    alone = AssembleNet("densenet_small", classes=CLASSES, head="multi_network", sources=SOURCES)
    alone.load_state_dict(net.state_dict())
    for network, state in zip(alone.backbone.networks, before, strict=True):
        network.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(alone(own, torch.zeros(4, dtype=torch.long)), mixed[:4], atol=1e-6)
    first = zip(net.backbone.networks[0].buffers(), alone.backbone.networks[0].buffers(), strict=True)
    assert all(torch.equal(a, b) for a, b in first)
    untouched = net.backbone.networks[1].state_dict()
    assert all(torch.equal(untouched[key], value) for key, value in before[1].items())


@pytest.mark.parametrize("head", ["multi_network", "source_heads"])
def test_without_sources_the_answer_is_the_mean_over_those_that_label_the_class(head: str) -> None:
    net = _net(head).eval()
    images = torch.randn(5, 1, 16, 16)
    by_source = [net(images, torch.full((5,), source)) for source in range(3)]
    want = torch.stack(
        [
            by_source[0][:, 0],  # Edema: nih
            (by_source[0][:, 1] + by_source[2][:, 1]) / 2,  # Nodule: nih and local
            (by_source[1][:, 2] + by_source[2][:, 2]) / 2,  # COVID-19: covidx and local
        ],
        dim=1,
    )
    torch.testing.assert_close(net(images), want, rtol=0, atol=1e-6)
    linear = net.head.to_linear()
    torch.testing.assert_close(linear(net.backbone(images)), want, rtol=0, atol=1e-6)


def _by_hand(head: TaskCodeHead, features: Tensor) -> Tensor:
    """DoDNet's way: one image and one task at a time, its weights cut out of what the controller gives."""
    logits = torch.empty(len(features), head.out_features)
    for row, feature in enumerate(features):
        for column in range(head.out_features):
            code = torch.zeros(head.out_features)
            code[column] = 1
            generated = head.controller(torch.cat([feature, code]))
            w1, w2, w3, b1, b2, b3 = generated.split([64, 64, 8, 8, 8, 1])
            x = head.reduce(feature)[None, :, None]  # a map of one place
            x = torch.relu(nn.functional.conv1d(x, w1.view(8, 8, 1), b1))
            x = torch.relu(nn.functional.conv1d(x, w2.view(8, 8, 1), b2))
            logits[row, column] = nn.functional.conv1d(x, w3.view(1, 8, 1), b3)
    return logits


def test_task_code_is_dodnets_head_on_pooled_features() -> None:
    head = TaskCodeHead(D, CLASSES)
    features = torch.randn(4, D)
    torch.testing.assert_close(head(features), _by_hand(head, features), rtol=1e-5, atol=1e-6)
    bound = (D + 3) ** -0.5  # torch's default, as in the authors' code
    assert float(head.controller.weight.detach().abs().max()) <= bound
    assert float(head.controller.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_source_heads_start_as_linear_layers_of_their_own() -> None:
    head = SourceHeads(D, CLASSES, SOURCES)
    assert float(head.linear.weight.detach().std()) == pytest.approx(
        float(nn.Linear(D, 2).weight.detach().std()), rel=0.2
    )
    assert float(head.linear.weight.detach().abs().max()) <= D**-0.5


def test_mistakes_are_named() -> None:
    with pytest.raises(LabelAssembleError, match="unknown head 'source_head', did you mean 'source_heads'"):
        _net("source_head")
    with pytest.raises(LabelAssembleError, match="head 'multi_network' needs sources"):
        _net("multi_network", sources=None)
    with pytest.raises(
        LabelAssembleError, match="cannot answer 'COVID-19': no source labels it for training"
    ):
        _net("source_heads", sources={"nih": ["Edema", "Nodule"]})
    with pytest.raises(
        LabelAssembleError, match="'nih' labels the unknown class 'Nodul', did you mean 'Nodule'"
    ):
        _net("source_heads", sources={"nih": ["Nodul"]})
    with pytest.raises(LabelAssembleError, match="this head learns an image by its source"):
        _net("source_heads")(torch.zeros(2, 1, 16, 16))


class _Own(nn.Module):
    def __init__(self, in_channels: int, out_features: object = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 6, 3)
        self.out_features = out_features

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.conv(images)).mean(dim=(2, 3))


@pytest.mark.parametrize("head", HEADS)
def test_a_backbone_of_ones_own_goes_with_every_head(head: str) -> None:
    net = AssembleNet(_Own, classes=CLASSES, head=head, in_channels=2, sources=SOURCES)
    assert isinstance(net.backbone, Backbones if head == "multi_network" else _Own)
    assert sum(isinstance(module, _Own) for module in net.modules()) == (3 if head == "multi_network" else 1)
    images = torch.randn(4, 2, 8, 8)
    logits = net(images, torch.tensor([0, 1, 2, -1]))
    logits.square().sum().backward()
    assert _learnt(net.backbone)
    net.eval()
    torch.testing.assert_close(torch.jit.script(net)(images), net(images))


def test_a_backbone_of_ones_own_that_does_not_fit() -> None:
    with pytest.raises(LabelAssembleError, match=r"must have out_features, .* got _Own with None"):
        AssembleNet(lambda channels: _Own(channels, None), classes=CLASSES)
    with pytest.raises(LabelAssembleError, match="load those of _Own in the function that makes it"):
        AssembleNet(_Own, classes=CLASSES, pretrained="weights.pth")


def _query_head(seed: int = 0, **options: Any) -> ClassQueryHead:
    model = ModelOptions(backbone="cnn_small", **options)
    net, _ = start_network(model, classes=("a", "b", "c"), sources=None, channels=1, size=32, seed=seed)
    assert isinstance(net.head, ClassQueryHead)
    return net.head


def test_random_queries() -> None:
    usual, random = _query_head(), _query_head(queries="random")
    assert torch.equal(usual.queries, torch.eye(3))
    torch.testing.assert_close(random.queries.detach().norm(dim=1), torch.ones(3))
    assert not torch.equal(random.queries, _query_head(1, queries="random").queries)
    assert torch.equal(random.queries, _query_head(queries="random").queries)
    assert torch.equal(random.weight, usual.weight)  # the rest of the network starts as without
    with pytest.raises(ValidationError, match="queries are of the head class_query, but the head is linear"):
        ModelOptions(head="linear", queries="random")
