"""Copies to a GPU wait for nothing; on the CPU nothing is copied."""

import pytest
import torch
from torch import Tensor

from labelassemble.views.transfer import pinned_for, to_device


def test_on_the_cpu_tensors_stay_what_they_are() -> None:
    tensor = torch.arange(6)
    assert pinned_for(tensor, torch.device("cpu")) is tensor
    assert to_device(tensor, torch.device("cpu")) is tensor


def test_a_copy_to_a_gpu_comes_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    tensor, nothing = torch.arange(6), torch.empty(0, 3)
    found = pinned_for(tensor, torch.device("cuda", 1))
    assert torch.equal(found, tensor)
    assert [each is tensor for each in pinned] == [True]
    assert pinned_for(nothing, torch.device("cuda")) is nothing  # there is nothing to pin


@pytest.mark.cuda
def test_values_arrive_on_a_gpu() -> None:
    device, tensor = torch.device("cuda"), torch.arange(6)
    assert pinned_for(tensor, device).is_pinned()
    assert to_device(tensor, device).tolist() == tensor.tolist()
    assert to_device(torch.empty(0, 3), device).shape == (0, 3)
