"""BatchNorm learns its statistics in every epoch of training, and never in validation."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from labelassemble.config import load_config
from labelassemble.run import train_run
from labelassemble.training import loop
from labelassemble.training.batch_norm import GlobalBatchNorm, synchronised
from labelassemble.training.validation import Validation


def _statistics(net: nn.Module) -> torch.Tensor:
    return torch.cat([value.clone() for name, value in net.named_buffers() if "running" in name])


def test_statistics_move_in_every_epoch_and_not_in_validation(
    small_sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[torch.Tensor] = []
    after: list[torch.Tensor] = []
    original = Validation.scores

    def noting(self: Validation, net: nn.Module, *rest: Any) -> Any:
        before.append(_statistics(net))
        scores = original(self, net, *rest)
        after.append(_statistics(net))
        assert net.training  # what validation put into eval mode trains again
        return scores

    monkeypatch.setattr(Validation, "scores", noting)
    config = load_config(small_sources / "run.yaml", ["train.epochs=3", "train.batch_size=12"])
    train_run(config, small_sources / "out", resume=False, console=Console(quiet=True))
    assert len(before) == 3
    for epoch in range(3):
        assert torch.equal(before[epoch], after[epoch])
        if epoch:
            assert not torch.equal(after[epoch - 1], before[epoch])


def test_a_batch_mixes_sources(small_sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With balanced sampling every batch that BatchNorm sees has as many images of one source as of the other."""
    seen = []
    original = loop.step_record

    def noting(terms: Any, logits: Any, targets: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append((~torch.isnan(targets)).sum(0).tolist())  # each source labels a class of its own
        return original(terms, logits, targets, *rest)

    monkeypatch.setattr(loop, "step_record", noting)
    config = load_config(small_sources / "run.yaml", ["train.epochs=1", "train.sampling=balanced"])
    train_run(config, small_sources / "out", resume=False, console=Console(quiet=True))
    assert seen == [[4, 4]] * 3


def test_a_synchronised_network_keeps_names_values_and_modes() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2, eps=0.1, momentum=None), nn.ReLU())
    )
    net[1][0].running_mean.fill_(3.0)  # type: ignore[index]
    names, parameters = list(net.state_dict()), {id(p) for p in net.parameters()}
    net.eval()
    ours = synchronised(net, torch.device("cpu"))
    assert list(ours.state_dict()) == names
    assert {id(p) for p in ours.parameters()} == parameters
    norm = ours[1][0]  # type: ignore[index]
    assert isinstance(norm, GlobalBatchNorm)
    assert (norm.eps, norm.momentum, norm.training) == (0.1, None, False)
    assert torch.equal(norm.running_mean, torch.tensor([3.0, 3.0]))
    x = torch.randn(4, 1, 5, 5)
    plain = nn.BatchNorm2d(2, eps=0.1, momentum=None).eval()
    plain.running_mean.fill_(3.0)  # type: ignore[union-attr]
    torch.testing.assert_close(ours(x), torch.relu(plain(ours[0](x))))  # type: ignore[index]
    with pytest.raises(ValueError, match=r"BatchNorm needs at least \[B, C\], got \[3\]"):
        norm.train()(torch.zeros(3))


def test_its_forward_serves_as_a_fallback(train: Callable[..., Any]) -> None:
    """One process needs no exchange: a network keeps torch's own BatchNorm."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    train(net)
    assert type(net[1]) is nn.BatchNorm2d


def test_training_is_imported_without_torchs_compiler() -> None:
    """It takes seconds, and every command on a run's folder imports training."""
    code = "import sys, labelassemble.training.loop; sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
