"""Every training option is validated and does what it says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labelassemble.config import load_config
from labelassemble.errors import LabelAssembleError
from labelassemble.loss import PartialLabelLoss
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.training.state import averaged_model


def _net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),  # whose gradient BatchNorm would leave to rounding
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.clip_norm=0", r"'train\.clip_norm': input should be greater than 0, got 0"),
        ("train.clip_norm=.inf", r"'train\.clip_norm': input should be a finite number, got inf"),
        ("train.accumulate=0", r"'train\.accumulate': input should be greater than or equal to 1, got 0"),
        ("train.accumulate=17", r"'train': accumulate must be at most batch_size, got 17 parts of 16 images"),
        (
            "train.precision=half",
            r"'train\.precision': input should be 'auto', 'float32', 'bfloat16' or 'float16', got 'half'",
        ),
        ("train.ema=1", r"'train\.ema': input should be less than 1, got 1"),
        ("train.sampling=even", r"'train\.sampling': must be auto, shuffle, balanced, or shares by source"),
        ("train.compile=perhaps", r"'train\.compile': input should be a valid boolean"),
        ("train.cuda_graph=perhaps", r"'train\.cuda_graph': input should be a valid boolean"),
        ("train.checkpoint_every=0", r"'train\.checkpoint_every': input should be greater than or equal to 1, got 0"),
        ("train.chanels_last=true", r"unknown key 'train\.chanels_last', did you mean 'channels_last'\?"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_sentence(tmp_path: Path, override: str, sentence: str) -> None:
    (tmp_path / "run.yaml").write_text("sources: [{name: a, reader: csv, path: a.csv}]\n")
    with pytest.raises(LabelAssembleError, match=sentence):
        load_config(tmp_path / "run.yaml", [override])


def test_clipping_bounds_the_gradient_of_a_step(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    step = torch.optim.Adam.step

    def noting(self: torch.optim.Adam, *args: Any, **others: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return step(self, *args, **others)

    monkeypatch.setattr(torch.optim.Adam, "step", noting)
    train(_net())
    free = list(norms)
    norms.clear()
    limit = 0.5 * min(free)
    train(_net(), clip_norm=limit)
    assert norms == pytest.approx([limit] * len(free), rel=1e-3)


class _Probe(nn.Module):
    """A network that notes what it is given and how it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _net()
        self.seen: list[tuple[bool, torch.dtype]] = []

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        self.seen.append((self.training, logits.dtype))
        return logits


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_is_that_of_the_network_in_training_and_the_weights_stay_float32(
    train: Callable[..., Any], tmp_path: Path, precision: str
) -> None:
    net = _Probe()
    before = [parameter.clone() for parameter in net.parameters()]
    train(net, precision=precision)
    assert set(net.seen) == {(True, getattr(torch, precision))}
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    state = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert ("scale" in state["scaler"]) == (precision == "float16")


def test_the_loss_is_computed_in_float32(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = PartialLabelLoss.terms

    def noting(self: Any, weak: Tensor, strong: Tensor | None, targets: Tensor, **counts: Any) -> Any:
        seen.append((weak.dtype, None if strong is None else strong.dtype))
        return original(self, weak, strong, targets, **counts)

    monkeypatch.setattr(PartialLabelLoss, "terms", noting)
    train(_net(), precision="bfloat16")
    assert set(seen) == {(torch.float32, None), (torch.float32, torch.float32)}


def test_channels_last_is_the_order_of_the_convolutions(train: Callable[..., Any]) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    train(net, channels_last=True)
    assert net[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert not net[1].weight.is_contiguous()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_compiled_network_learns_the_same(train: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "compiled").mkdir()
    eager, compiled = _net(), _net()
    torch._dynamo.reset()
    train(eager)
    train(compiled, folder="compiled", compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for one, two in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
    names = load_checkpoint(tmp_path / "compiled" / "checkpoints" / "last.pt")["model"]
    assert list(names) == list(eager.state_dict())


def test_the_average_follows_the_weights_and_statistics() -> None:
    net = _net()
    ema = averaged_model(net, 0.9)
    expected = {name: value.clone() for name, value in net.state_dict().items()}
    for update in range(1, 5):
        with torch.no_grad():
            for value in net.state_dict().values():
                value.add_(1)
        ema.update_parameters(net)
        decay = min(0.9, (1 + update) / (10 + update))
        for name, value in net.state_dict().items():
            mixed = (
                decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
            )
            expected[name] = mixed
    for name, value in ema.module.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert not ema.module.training


def test_an_average_goes_on_from_a_checkpoint_that_counts_its_updates(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    whole, parts = _net(), _net()
    (tmp_path / "parts").mkdir()
    train(whole, ema=0.9)
    train(parts, folder="parts", ema=0.9, epochs=1)
    state = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")
    assert list(state["ema"]) == ["model", "updates"]
    assert state["ema"]["updates"] == 3  # steps done
    train(_net(), folder="parts", ema=0.9, resume=state)
    one, two = (load_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in ("run", "parts"))
    assert one["ema"]["updates"] == two["ema"]["updates"] == 6
    assert all(torch.equal(one["ema"]["model"][name], value) for name, value in two["ema"]["model"].items())


def test_the_average_is_what_is_validated_and_kept_as_best(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labelassemble.training.validation import Validation

    validated = []
    original = Validation.scores

    def noting(self: Validation, net: nn.Module, *rest: Any) -> Any:
        validated.append(net)
        return original(self, net, *rest)

    monkeypatch.setattr(Validation, "scores", noting)
    net = _net()
    train(net, ema=0.9)
    last, best = (load_checkpoint(tmp_path / "run" / "checkpoints" / name) for name in ("last.pt", "best.pt"))
    assert all(one is not net for one in validated)
    for name, value in best["model"].items():  # the last epoch is the best without validation images
        assert torch.equal(value, last["ema"]["model"][name])
        assert torch.equal(value, validated[-1].state_dict()[name])
    assert not torch.equal(best["model"]["0.weight"], last["model"]["0.weight"])
    assert not torch.equal(best["model"]["1.running_mean"], last["model"]["1.running_mean"])


def test_what_the_network_draws_itself_depends_on_seed_epoch_and_step_alone(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    def net() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))

    (tmp_path / "again").mkdir()
    state = torch.get_rng_state()
    one, two = net(), net()
    torch.manual_seed(5)
    train(one)
    torch.manual_seed(6)
    train(two, folder="again")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    expected = torch.Generator().manual_seed(6).get_state()
    assert torch.equal(torch.get_rng_state(), expected)  # the caller's random state is untouched
    torch.set_rng_state(state)
