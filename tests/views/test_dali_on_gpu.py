"""The pipeline of the GPU: its graph wherever DALI is, its pixels where there is a GPU."""

import numpy as np
import pytest
import torch

from labelassemble.views.choice import Choice, open_views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler

pytestmark = pytest.mark.dali


@pytest.mark.parametrize("channels", [1, 3])
def test_every_operator_of_the_graph_takes_what_it_gets_on_a_gpu(channels: int) -> None:
    from labelassemble.views.dali_pipeline import ViewPipeline

    options = ViewOptions(channels=channels, mean=(0.5,) * channels)
    graph = ViewPipeline(options, batch_size=4, strong=True, decoder="mixed", device_id=0)
    assert graph.output_devices == ("gpu", "gpu")
    on_cpu = ViewPipeline(options, batch_size=4, strong=True, decoder="cpu", device_id=None)
    assert on_cpu.output_devices == ("cpu", "cpu")


@pytest.mark.cuda
@pytest.mark.parametrize("channels", [1, 3])
def test_views_on_the_gpu_are_those_of_the_cpu(paths: list[str], channels: int) -> None:
    png = [path for path in paths if path.endswith(".png")]  # JPEG is decoded by another library there
    options = ViewOptions(size=16, channels=channels)
    targets = np.zeros((len(png), 1), np.float32)
    ours, theirs = (
        open_views(Choice("dali", ""), png, targets, options, Sampler(len(png), batch_size=4, seed=0), device)
        for device in ("cpu", "cuda")
    )
    for one, other in zip(ours.epoch(0, strong=True), theirs.epoch(0, strong=True), strict=True):
        assert torch.equal(one.rows, other.rows)
        assert one.strong is not None
        assert other.strong is not None
        for here, there in ((one.weak, other.weak), (one.strong, other.strong)):
            assert there.is_cuda
            assert float((here - there.cpu()).abs().mean()) < 0.01
