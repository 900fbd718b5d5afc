"""Memory does not grow with the number of epochs."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelassemble.views.choice import Choice, open_views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler

COUNT = 32


def _resident_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", pytest.param("dali", marks=pytest.mark.dali)])
def test_fifty_epochs_take_no_more_memory_than_ten(tmp_path: Path, one_thread: None, backend: str) -> None:
    rng = np.random.default_rng(0)
    files = []
    for index in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (160, 160), dtype=np.uint8)).save(tmp_path / f"{index}.png")
        files.append(str(tmp_path / f"{index}.png"))
    options = ViewOptions(size=64, cache_mb=0)
    sampler = Sampler(COUNT, batch_size=16, seed=0)
    views = open_views(Choice(backend, ""), files, np.zeros((COUNT, 2), np.float32), options, sampler)
    memory = []
    for epoch in range(50):
        for batch in views.epoch(epoch, strong=epoch % 2 == 1):
            assert len(batch.rows) == 16
        memory.append(_resident_mib())
    assert memory[-1] - memory[9] < 20, memory  # an epoch's views alone are 1.5 MiB, its images 2.4
