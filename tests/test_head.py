"""ClassQueryHead: names, subsets, added classes, and the linear layer that it folds into."""

import re

import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.head import ClassQueryHead
from labelassemble.models import AssembleNet
from labelassemble.models.segmentation.segment_net import SegmentNet


@pytest.fixture
def head() -> ClassQueryHead:
    torch.manual_seed(0)
    head = ClassQueryHead(7, ["Edema", "Nodule", "Mass"])
    with torch.no_grad():  # as if trained
        head.queries += 0.3 * torch.randn_like(head.queries)
    return head


features = torch.linspace(-1, 1, 35).view(5, 7)


def test_starts_as_one_linear_row_a_class() -> None:
    head = ClassQueryHead(7, 3)
    assert torch.equal(head.queries, torch.eye(3))
    assert head.classes == ["class0", "class1", "class2"]
    want = features @ (head.weight.t() + head.bias).t()
    torch.testing.assert_close(head(features), want)


def test_subset_is_in_the_order_named(head: ClassQueryHead) -> None:
    torch.testing.assert_close(head(features, classes=["Mass", "Edema"]), head(features)[:, [2, 0]])


def test_unknown_class_names_the_nearest(head: ClassQueryHead) -> None:
    with pytest.raises(LabelAssembleError, match="no class 'Nodul', did you mean 'Nodule'"):
        head(features, classes=["Nodul"])


def test_added_classes_leave_the_others_alone(head: ClassQueryHead) -> None:
    before = head(features)
    head.add_classes(["COVID-19", "Hernia"])
    assert head.classes == ["Edema", "Nodule", "Mass", "COVID-19", "Hernia"]
    assert head(features).shape == (5, 5)
    torch.testing.assert_close(head(features)[:, :3], before)
    assert torch.equal(head.queries[3:], torch.eye(5)[3:])
    head(features).sum().backward()
    assert head.queries.grad is not None
    assert head.queries.grad.shape == (5, 5)


def test_added_class_uses_a_free_dimension() -> None:
    head = ClassQueryHead(7, ["Edema"], query_dim=4)
    weight = head.weight.clone()
    head.add_classes(["Mass"])
    assert head.queries.shape == (2, 4)
    assert torch.equal(head.weight, weight)


def test_similarity_of_learned_queries(head: ClassQueryHead) -> None:
    similarity = head.similarity()
    torch.testing.assert_close(similarity.diagonal(), torch.ones(3))
    want = torch.nn.functional.cosine_similarity(head.queries[0], head.queries[1], dim=0)
    torch.testing.assert_close(similarity[0, 1], want)
    assert not similarity.requires_grad


def test_to_linear_gives_the_same_logits(head: ClassQueryHead) -> None:
    linear = head.to_linear()
    assert linear.bias is None
    torch.testing.assert_close(linear(features), head(features))


def test_from_feature_map_pools_after_relu(head: ClassQueryHead) -> None:
    image = torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(0))
    want = head(image.relu().mean((2, 3)))
    torch.testing.assert_close(head.from_feature_map(image), want)
    torch.testing.assert_close(head.from_feature_map(image, classes=["Mass"]), want[:, 2:])


def test_scripted_and_traced_give_the_same(head: ClassQueryHead) -> None:
    scripted = torch.jit.script(head)
    assert torch.equal(scripted(features), head(features))
    assert torch.equal(scripted(features, classes=["Nodule"]), head(features, classes=["Nodule"]))
    traced = torch.jit.trace(head, features)
    assert torch.equal(traced(2 * features), head(2 * features))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((7, []), "at least one class"),
        ((7, "Edema"), re.escape("classes must be a list of names, got the text 'Edema': write ['Edema']")),
        ((7, ["A", "B", "A"]), "classes must differ, got 'A' twice"),
        ((0, ["A"]), "in_features must be at least 1, got 0"),
        ((7, ["A", "B"], 1), "query_dim must be at least the number of classes, 2, got 1"),
    ],
)
def test_wrong_arguments(arguments: tuple[int, list[str]], message: str) -> None:
    with pytest.raises(LabelAssembleError, match=message):
        ClassQueryHead(*arguments)


def test_adding_a_class_twice_is_refused(head: ClassQueryHead) -> None:
    with pytest.raises(LabelAssembleError, match="got 'Mass' twice"):
        head.add_classes(["Mass"])


def test_a_text_is_no_list_of_classes(head: ClassQueryHead) -> None:
    before = list(head.classes)
    with pytest.raises(LabelAssembleError, match="must be a list of names, got the text 'Hernia'"):
        head.add_classes("Hernia")
    head.add_classes([])
    assert head.classes == before
    for network in (AssembleNet, SegmentNet):
        with pytest.raises(LabelAssembleError, match="must be a list of names, got the text 'Edema'"):
            network(classes="Edema")


@pytest.mark.parametrize("classes", [1, 3, 15])
def test_starts_as_the_linear_layer_that_it_replaces(classes: int) -> None:
    ours = torch.stack([ClassQueryHead(64, classes).to_linear().weight.detach() for _ in range(50)])
    linear = torch.stack([torch.nn.Linear(64, classes).weight.detach() for _ in range(50)])
    assert float(ours.std()) == pytest.approx(float(linear.std()), rel=0.05)
    assert float(ours.abs().max()) <= 64**-0.5
    assert abs(float(ours.mean())) < 0.01
