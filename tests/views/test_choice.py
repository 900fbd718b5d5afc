import sys

import numpy as np
import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.views.choice import choose_backend, open_views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler
from labelassemble.views.torch_backend import TorchViews

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def without_dali(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("nvidia.dali")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)  # what an import of it then finds


def test_without_a_gpu_the_quickest_is_torch_and_is_said_to_be() -> None:
    assert choose_backend(ViewOptions(), CPU) == ("torch", "the quickest without a GPU")
    assert choose_backend(ViewOptions(backend="torch"), GPU).name == "torch"


@pytest.mark.dali
def test_on_a_gpu_it_is_dali() -> None:
    assert choose_backend(ViewOptions(), GPU) == ("dali", "decodes and transforms on the GPU")
    assert choose_backend(ViewOptions(backend="dali"), CPU).name == "dali"


@pytest.mark.usefixtures("without_dali")
def test_on_a_gpu_without_dali_it_is_torch_and_says_how_to_get_dali() -> None:
    choice = choose_backend(ViewOptions(), GPU)
    assert choice.name == "torch"
    assert choice.reason == (
        'NVIDIA DALI is not installed, which decodes on the GPU (pip install "nvidia-dali-cuda130>=2.0")'
    )


@pytest.mark.usefixtures("without_dali")
def test_asking_for_dali_without_it_names_the_command() -> None:
    with pytest.raises(
        LabelAssembleError,
        match=r'^views\.backend is dali, but NVIDIA DALI is not installed: pip install "nvidia-dali-cuda130>=2\.0"$',
    ):
        choose_backend(ViewOptions(backend="dali"), CPU)


@pytest.mark.usefixtures("without_dali")
def test_torch_needs_no_dali(paths: list[str]) -> None:
    options = ViewOptions(size=16)
    sampler = Sampler(11, batch_size=4, seed=0)
    views = open_views(choose_backend(options, CPU), paths, np.zeros((11, 1), np.float32), options, sampler)
    assert isinstance(views, TorchViews)
    assert len(list(views.epoch(0, strong=True))) == 3
