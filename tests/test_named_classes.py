"""A state dict names its classes: another order is put in order, other classes are refused."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from labelassemble.head import ClassQueryHead
from labelassemble.models import AssembleNet

IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
FEATURES = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
SOURCES = {"a": ["Edema", "Nodule"], "b": ["Mass"]}


def trained(classes: list[str], query_dim: int | None = None) -> ClassQueryHead:
    """A head whose queries are not one-hot any more."""
    head = ClassQueryHead(8, classes, query_dim)
    with torch.no_grad():
        head.queries.normal_()
    return head


def test_another_order_is_put_in_order_by_name() -> None:
    saved, loaded = trained(["Edema", "Nodule", "Mass"]), trained(["Mass", "Edema", "Nodule"])
    loaded.load_state_dict(saved.state_dict())
    assert loaded.classes == ["Mass", "Edema", "Nodule"]
    for name in saved.classes:
        assert torch.equal(saved(FEATURES, classes=[name]), loaded(FEATURES, classes=[name]))
    assert not torch.equal(saved(FEATURES), loaded(FEATURES))


@pytest.mark.parametrize("assign", [False, True])
def test_within_another_module(assign: bool) -> None:
    saved = nn.Sequential(nn.Linear(8, 8), trained(["Edema", "Nodule"]))
    loaded = nn.Sequential(nn.Linear(8, 8), trained(["Nodule", "Edema"]))
    loaded.load_state_dict(saved.state_dict(), assign=assign)
    torch.testing.assert_close(loaded(FEATURES), saved(FEATURES)[:, [1, 0]])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["Edema", "Mass"], "they lack 'Mass' and are for 'Nodule' as well"),
        (["Edema"], "they are for 'Nodule' as well"),
        (
            ["Edema", "Nodule", "Mass"],
            "they lack 'Mass'; make it with the classes 'Edema', 'Nodule', in any order",
        ),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_other_classes_are_refused(classes: list[str], message: str, strict: bool) -> None:
    loaded = trained(classes, query_dim=4)
    before = loaded.queries.clone()
    with pytest.raises(RuntimeError, match=re.escape(message)):
        loaded.load_state_dict(trained(["Edema", "Nodule"], query_dim=4).state_dict(), strict=strict)
    assert torch.equal(loaded.queries, before)


def test_a_state_without_names_is_taken_as_it_stands() -> None:
    saved, loaded = trained(["Edema", "Nodule"]), trained(["Nodule", "Edema"])
    old = {key: value for key, value in saved.state_dict().items() if key != "_extra_state"}
    assert set(old) == {"queries", "weight", "bias"}
    loaded.load_state_dict(old)
    assert torch.equal(loaded(FEATURES), saved(FEATURES))


def test_names_made_of_a_number_are_not_compared() -> None:
    saved, loaded = trained(["Edema", "Nodule"]), ClassQueryHead(8, 2)
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded(FEATURES), saved(FEATURES))
    saved.load_state_dict(loaded.state_dict())


def test_the_state_holds_tensors_alone_and_survives_a_mean(tmp_path: Path) -> None:
    """Files of safetensors hold tensors only, and averages of several files are those of floats."""
    saved = trained(["Ödem", "Nodule"])
    state = saved.state_dict()
    assert all(isinstance(value, Tensor) for value in state.values())
    torch.save(state, tmp_path / "head.pt")
    state = torch.load(tmp_path / "head.pt", weights_only=True)
    mean = {key: (value.float() + value.float()) / 2 for key, value in state.items()}
    loaded = trained(["Nodule", "Ödem"])
    loaded.load_state_dict(mean)
    assert torch.equal(loaded(FEATURES), saved(FEATURES)[:, [1, 0]])


def test_something_else_in_the_place_of_the_names_is_refused() -> None:
    state = trained(["Edema"]).state_dict() | {"_extra_state": torch.tensor([1, 2], dtype=torch.uint8)}
    with pytest.raises(RuntimeError, match="'_extra_state' does not hold names of classes"):
        trained(["Edema"]).load_state_dict(state)


@pytest.mark.parametrize("kind", ["class_query", "linear", "task_code", "source_heads", "multi_network"])
def test_every_head_of_the_network(kind: str) -> None:
    def make(classes: list[str], sources: dict[str, list[str]]) -> AssembleNet:
        return AssembleNet("cnn_small", classes=classes, head=kind, sources=sources).eval()

    saved = make(["Edema", "Nodule", "Mass"], SOURCES)
    loaded = make(["Mass", "Edema", "Nodule"], {"b": ["Mass"], "a": ["Nodule", "Edema"]})
    loaded.load_state_dict(saved.state_dict())
    torch.testing.assert_close(loaded(IMAGES), saved(IMAGES)[:, [2, 0, 1]])
    other = make(["Edema", "Nodule", "Cyst"], {"a": ["Edema", "Nodule"], "b": ["Cyst"]})
    with pytest.raises(RuntimeError, match="were saved for other classes than those of this"):
        other.load_state_dict(saved.state_dict())
    old = {key: value for key, value in saved.state_dict().items() if not key.endswith("_extra_state")}
    make(["Edema", "Nodule", "Mass"], SOURCES).load_state_dict(old)


def test_scripted_and_exported_heads_have_no_names() -> None:
    head = trained(["Edema", "Nodule"])
    scripted = torch.jit.script(head)
    assert set(scripted.state_dict()) == {"queries", "weight", "bias"}
    assert torch.equal(scripted(FEATURES), head(FEATURES))
    program = torch.export.export(head, (FEATURES,))
    assert torch.equal(program.module()(FEATURES), head(FEATURES))
