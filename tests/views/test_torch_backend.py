from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labelassemble.data.images import ImageError
from labelassemble.views.policy import ViewOptions
from labelassemble.views.torch_backend import TorchViews, evaluation_batches

OPTIONS = ViewOptions(size=16)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    files = []
    for index in range(11):
        shape = (16, 16) if index % 2 else (24, 20, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / f"{index}.png")
        files.append(str(tmp_path / f"{index}.png"))
    return files


def _views(
    paths: list[str], *, options: ViewOptions = OPTIONS, seed: int = 0, steps_per_epoch: int | None = None
) -> TorchViews:
    targets = np.arange(len(paths) * 2, dtype=np.float32).reshape(-1, 2) / 100
    targets[3, 0] = np.nan
    return TorchViews(paths, targets, options, batch_size=4, seed=seed, steps_per_epoch=steps_per_epoch)


def test_an_epoch_sees_every_image_once_in_batches_of_nearly_equal_size(paths: list[str]) -> None:
    views = _views(paths)
    batches = list(views.epoch(0, strong=True))
    assert len(batches) == views.steps == 3
    assert sorted(torch.cat([batch.rows for batch in batches]).tolist()) == list(range(11))
    assert sorted(len(batch.rows) for batch in batches) == [3, 4, 4]
    for batch in batches:
        assert batch.weak.shape == (len(batch.rows), 1, 16, 16)
        assert batch.strong is not None
        assert batch.strong.shape == batch.weak.shape
        assert batch.weak.dtype == batch.targets.dtype == torch.float32


def test_targets_travel_with_their_rows_and_unknown_stays_nan(paths: list[str]) -> None:
    for batch in _views(paths).epoch(0, strong=False):
        for row, target in zip(batch.rows.tolist(), batch.targets, strict=True):
            assert float(target[1]) == pytest.approx((2 * row + 1) / 100)
            assert bool(target[0].isnan()) == (row == 3)


def test_no_strong_view_where_none_is_needed(paths: list[str]) -> None:
    assert all(batch.strong is None for batch in _views(paths).epoch(0, strong=False))


def test_same_seed_same_batches_whatever_the_threads_and_another_order_each_epoch(paths: list[str]) -> None:
    one = list(_views(paths).epoch(1, strong=True))
    two = list(
        _views(paths, options=OPTIONS.model_copy(update={"threads": 5, "cache_mb": 0})).epoch(1, strong=True)
    )
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.rows, b.rows)
        assert torch.equal(a.weak, b.weak)
        assert a.strong is not None
        assert b.strong is not None
        assert torch.equal(a.strong, b.strong)
    other_epoch = next(_views(paths).epoch(2, strong=True))
    other_seed = next(_views(paths, seed=1).epoch(1, strong=True))
    assert not torch.equal(one[0].rows, other_epoch.rows)
    assert not torch.equal(one[0].rows, other_seed.rows)


def test_an_epoch_goes_on_from_any_step(paths: list[str]) -> None:
    whole = list(_views(paths).epoch(0, strong=True))
    rest = list(_views(paths).epoch(0, strong=True, first_step=2))
    assert len(rest) == 1
    assert torch.equal(rest[0].weak, whole[2].weak)


def test_epochs_of_a_number_of_steps_follow_one_another_over_the_table(paths: list[str]) -> None:
    views = _views(paths, steps_per_epoch=2)
    rows = [torch.cat([b.rows for b in views.epoch(epoch, strong=False)]).tolist() for epoch in range(4)]
    assert [len(part) for part in rows] == [8, 8, 8, 8]
    seen = [row for part in rows for row in part]
    assert sorted(seen[:11]) == sorted(seen[11:22]) == list(range(11))  # 32 rows: two whole passes and a part


def test_the_evaluated_view_is_the_preprocessing_of_the_file(paths: list[str]) -> None:
    views = torch.cat(list(evaluation_batches(paths, OPTIONS, batch_size=3)))
    assert views.shape == (11, 1, 16, 16)
    pixels = torch.from_numpy(np.array(Image.open(paths[0]))).permute(2, 0, 1)[None]
    assert torch.equal(views[0:1], OPTIONS.preprocess()(pixels))


def test_a_corrupt_file_is_named(paths: list[str]) -> None:
    Path(paths[4]).write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(ImageError, match=r"4\.png"):
        list(_views(paths).epoch(0, strong=False))
    with pytest.raises(ImageError, match=r"4\.png"):
        list(evaluation_batches(paths, OPTIONS, batch_size=3))
