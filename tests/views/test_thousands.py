"""A run of thousands of images of which a few cannot be read, on every backend."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelassemble.errors import LabelAssembleError
from labelassemble.views.choice import Choice, open_views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler

COUNT = 4_000
BAD = 36
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    names = []
    for index in range(COUNT):
        path = folder / f"{index:05d}.{'jpg' if index % 2 else 'png'}"
        Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8)).save(path)
        names.append(str(path))
    return names


@pytest.fixture(scope="module")
def bad(files: list[str]) -> set[int]:
    """Files cut off, damaged, overwritten, emptied and removed; their rows."""
    rows = sorted(np.random.default_rng(1).permutation(COUNT)[:BAD].tolist())
    for kind, row in enumerate(rows):
        path = Path(files[row])
        data = bytearray(path.read_bytes())
        if kind % 5 == 0:
            path.write_bytes(data[: len(data) // 2])
        elif kind % 5 == 1 and path.suffix == ".png":
            data[-20] ^= 0xFF  # within the pixels: what the file is can still be seen
            path.write_bytes(data)
        elif kind % 5 == 2:
            path.write_bytes(b"rubbish")
        elif kind % 5 == 3:
            path.write_bytes(b"")
        else:
            path.unlink()
    return set(rows)


@pytest.mark.parametrize("backend", ["torch", pytest.param("dali", marks=pytest.mark.dali)])
def test_bad_files_are_named_counted_and_left_out_and_too_many_stop_the_run(
    backend: str, files: list[str], bad: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    targets = np.zeros((COUNT, 1), np.float32)

    def seen() -> list[int]:
        return [row for batch in views.epoch(0, strong=True) for row in batch.rows.tolist()]

    options = ViewOptions(size=8)  # the default limit, 1%, is 40 files
    views = open_views(Choice(backend, ""), files, targets, options, Sampler(COUNT, batch_size=64, seed=0))
    with caplog.at_level(logging.WARNING):
        assert sorted(seen()) == sorted(set(range(COUNT)) - bad)
    assert set(views.bad_files.errors) == bad
    warnings = [record.getMessage() for record in caplog.records]
    assert [int(re.findall(r"left out, (\d+) so far", text)[0]) for text in warnings] == list(
        range(1, BAD + 1)
    )
    assert all(sum(f"{files[row]}: " in text for text in warnings) == 1 for row in bad)

    options = ViewOptions(size=8, bad_files_limit=0.005)
    views = open_views(Choice(backend, ""), files, targets, options, Sampler(COUNT, batch_size=64, seed=0))
    with pytest.raises(
        LabelAssembleError, match=r"of 4000 images cannot be read, more than .* = 0\.005"
    ) as raised:
        seen()
    lines = str(raised.value).splitlines()
    count = int(lines[0].split()[0])
    assert 21 <= count <= 25  # several threads read at once
    assert len(lines) == 22  # the sentence, twenty files, and how many more
    assert all(any(files[row] in line for row in bad) for line in lines[1:21])
    assert lines[-1] == f"  ... and {count - 20} more"
