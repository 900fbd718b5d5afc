"""What every backend must do alike."""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from labelassemble import PartialLabelLoss
from labelassemble.data.errors import ImageError
from labelassemble.errors import LabelAssembleError
from labelassemble.models import AssembleNet
from labelassemble.views.batch import Batch, Views
from labelassemble.views.choice import Choice, open_views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler

OPTIONS = ViewOptions(size=16)


@pytest.fixture(params=["torch", pytest.param("dali", marks=pytest.mark.dali)])
def backend(request: pytest.FixtureRequest) -> Choice:
    return Choice(request.param, "the test asks for it")


def _views(backend: Choice, paths: list[str], options: ViewOptions = OPTIONS, **others: Any) -> Views:
    targets = np.arange(len(paths) * 2, dtype=np.float32).reshape(-1, 2) / 100
    targets[3:4, 0] = np.nan
    sampler = Sampler(len(paths), **{"batch_size": 4, "seed": 0, **others})
    return open_views(backend, paths, targets, options, sampler)


def _assert_same(one: Batch, two: Batch) -> None:
    assert one.step == two.step
    assert torch.equal(one.rows, two.rows)
    assert torch.equal(one.weak, two.weak)
    assert (one.strong is None) == (two.strong is None)
    if one.strong is not None and two.strong is not None:
        assert torch.equal(one.strong, two.strong)
    assert torch.equal(one.targets.nan_to_num(-1), two.targets.nan_to_num(-1))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_epoch_sees_every_image_once_the_last_batch_included(
    backend: Choice, paths: list[str], channels: int
) -> None:
    views = _views(backend, paths, ViewOptions(size=16, channels=channels))
    batches = list(views.epoch(0, strong=True))
    assert [batch.step for batch in batches] == list(range(views.steps)) == [0, 1, 2]
    assert sorted(torch.cat([batch.rows for batch in batches]).tolist()) == list(range(11))
    assert sorted(len(batch.rows) for batch in batches) == [3, 4, 4]
    for batch in batches:
        assert batch.strong is not None
        for view in (batch.weak, batch.strong):
            assert view.shape == (len(batch.rows), channels, 16, 16)
            assert view.dtype == torch.float32
            assert bool(view.isfinite().all())
            assert float(view.min()) >= -2.0  # black, with the default mean and deviation
            assert float(view.max()) <= 2.0
        assert batch.rows.dtype == torch.int64


def test_targets_travel_with_their_rows_and_unknown_stays_nan(backend: Choice, paths: list[str]) -> None:
    for batch in _views(backend, paths).epoch(0, strong=False):
        assert batch.targets.dtype == torch.float32
        for row, target in zip(batch.rows.tolist(), batch.targets, strict=True):
            assert float(target[1]) == pytest.approx((2 * row + 1) / 100)
            assert bool(target[0].isnan()) == (row == 3)


def test_no_strong_view_where_none_is_needed_and_the_weak_one_is_the_same(
    backend: Choice, paths: list[str]
) -> None:
    views = _views(backend, paths)
    for with_strong, without in zip(views.epoch(0, strong=True), views.epoch(0, strong=False), strict=True):
        assert without.strong is None
        assert torch.equal(with_strong.weak, without.weak)


@pytest.mark.parametrize("change", [{"threads": 5}, {"cache_mb": 0}])
def test_same_seed_same_batches_whatever_the_workers(
    backend: Choice, paths: list[str], change: dict[str, int]
) -> None:
    one = _views(backend, paths)
    two = _views(backend, paths, OPTIONS.model_copy(update=change))
    for epoch in (0, 1):
        for a, b in zip(one.epoch(epoch, strong=True), two.epoch(epoch, strong=True), strict=True):
            _assert_same(a, b)


def test_other_epochs_and_other_seeds_differ(backend: Choice, paths: list[str]) -> None:
    here = {
        row: view
        for batch in _views(backend, paths).epoch(1, strong=False)
        for row, view in zip(batch.rows.tolist(), batch.weak, strict=True)
    }
    for other in (
        _views(backend, paths).epoch(2, strong=False),
        _views(backend, paths, seed=1).epoch(1, strong=False),
    ):
        first = next(other)
        assert all(
            not torch.equal(view, here[row])
            for row, view in zip(first.rows.tolist(), first.weak, strict=True)
        )
        other.close()


@pytest.mark.parametrize("steps_per_epoch", [None, 5])
def test_an_epoch_goes_on_from_any_step(
    backend: Choice, paths: list[str], steps_per_epoch: int | None
) -> None:
    whole = list(_views(backend, paths, steps_per_epoch=steps_per_epoch).epoch(1, strong=True))
    for first in range(1, len(whole)):
        resumed = _views(backend, paths, steps_per_epoch=steps_per_epoch).epoch(
            1, strong=True, first_step=first
        )
        for a, b in zip(whole[first:], resumed, strict=True):
            _assert_same(a, b)


@pytest.mark.parametrize("steps_per_epoch", [None, 4])
@pytest.mark.parametrize("shards", [2, 3])
def test_processes_together_have_the_batches_and_the_views_of_one(
    backend: Choice, paths: list[str], shards: int, steps_per_epoch: int | None
) -> None:
    Path(paths[3]).unlink()
    options = OPTIONS.model_copy(update={"bad_files_limit": 1.0})

    def batches(**others: int) -> list[list[Batch]]:
        views = _views(backend, paths, options, steps_per_epoch=steps_per_epoch, **others)
        return [list(views.epoch(epoch, strong=True)) for epoch in (0, 1)]

    alone = batches(batch_size=2 * shards)
    parts = [batches(batch_size=2 * shards, rank=rank, world_size=shards) for rank in range(shards)]
    for epoch in (0, 1):
        for whole, *several in zip(alone[epoch], *(part[epoch] for part in parts), strict=True):
            assert {part.step for part in several} == {whole.step}
            for joined, expected in zip(_joined(several), whole[1:5], strict=True):
                assert expected is not None
                assert torch.equal(joined.nan_to_num(9.0), expected.nan_to_num(9.0))


def _joined(several: list[Batch]) -> list[Tensor]:
    return [torch.cat(tensors) for tensors in zip(*(part[1:5] for part in several), strict=True)]


def test_processes_share_an_epoch_and_their_views_are_those_of_one(backend: Choice, paths: list[str]) -> None:
    alone = {
        row: view
        for batch in _views(backend, paths).epoch(0, strong=False)
        for row, view in zip(batch.rows.tolist(), batch.weak, strict=True)
    }
    seen = []
    for rank in (0, 1):
        views = _views(backend, paths, rank=rank, world_size=2)
        assert views.steps == 3
        for batch in views.epoch(0, strong=False):
            seen += batch.rows.tolist()
            for row, view in zip(batch.rows.tolist(), batch.weak, strict=True):
                assert torch.allclose(view, alone[row], atol=1e-6)
    assert sorted(seen) == list(range(11))


def test_an_epoch_that_is_left_early_does_no_harm(backend: Choice, paths: list[str]) -> None:
    views = _views(backend, paths)
    left = views.epoch(0, strong=True)
    first = next(left)
    left.close()
    _assert_same(first, next(views.epoch(0, strong=True)))


def test_images_in_tar_shards_are_those_of_files(backend: Choice, paths: list[str], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard-000000.tar", "w") as shard:
        for path in paths:
            shard.add(path, Path(path).name)
    members = [f"{tmp_path / 'shard-000000.tar'}::{Path(path).name}" for path in paths]
    for a, b in zip(
        _views(backend, paths).epoch(0, strong=True),
        _views(backend, members).epoch(0, strong=True),
        strict=True,
    ):
        _assert_same(a, b)


def _damage(paths: list[str]) -> set[int]:
    """Cut off, overwrite, empty and remove some of the files; return their rows."""
    for row, name in ((2, "jpg"), (3, "png")):
        assert paths[row].endswith(name)
        data = Path(paths[row]).read_bytes()
        Path(paths[row]).write_bytes(data[: len(data) * 2 // 3])
    data = bytearray(Path(paths[1]).read_bytes())
    data[len(data) // 2] ^= 0xFF
    Path(paths[1]).write_bytes(data)
    Path(paths[4]).write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    Path(paths[6]).write_bytes(b"")
    Path(paths[7]).unlink()
    return {1, 2, 3, 4, 6, 7}


def test_bad_files_are_named_counted_and_left_out(
    backend: Choice, paths: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    good = {
        row: view
        for batch in _views(backend, paths).epoch(0, strong=False)
        for row, view in zip(batch.rows.tolist(), batch.weak, strict=True)
    }
    bad = _damage(paths)
    views = _views(backend, paths, OPTIONS.model_copy(update={"bad_files_limit": 0.6}))
    for epoch in (0, 1):
        batches = list(views.epoch(epoch, strong=True))
        assert sorted(row for batch in batches for row in batch.rows.tolist()) == sorted(set(range(11)) - bad)
        assert set(views.bad_files.errors) == bad
        for batch in batches:
            assert batch.strong is not None
            assert len(batch.weak) == len(batch.strong) == len(batch.targets) == len(batch.rows)
            if epoch == 0:
                for row, view in zip(batch.rows.tolist(), batch.weak, strict=True):
                    assert torch.allclose(view, good[row], atol=1e-6)  # as if the others had been there
    for row in bad:
        assert paths[row] in views.bad_files.to_text()
        assert sum(f"{paths[row]}: " in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("strong", [True, False])
def test_a_step_of_nothing_but_bad_files_has_an_empty_batch(
    backend: Choice, paths: list[str], strong: bool
) -> None:
    options = OPTIONS.model_copy(update={"bad_files_limit": 1.0})
    whole = [batch.rows.tolist() for batch in _views(backend, paths, options).epoch(0, strong=strong)]
    for row in whole[1]:
        Path(paths[row]).write_bytes(b"rubbish")
    views = _views(backend, paths, options)
    for _ in range(2):  # found, then known
        batches = list(views.epoch(0, strong=strong))
        assert [batch.step for batch in batches] == [0, 1, 2]
        assert [batch.rows.tolist() for batch in batches] == [whole[0], [], whole[2]]
        empty = batches[1]
        assert empty.weak.shape == (0, 1, 16, 16)
        assert empty.strong is None or empty.strong.shape == (0, 1, 16, 16)
        assert (empty.strong is not None) == strong
        assert empty.targets.shape == (0, 2)
        assert (empty.rows.dtype, empty.weak.dtype) == (torch.int64, torch.float32)


def test_every_process_takes_every_step_whatever_is_bad(backend: Choice, paths: list[str]) -> None:
    options = OPTIONS.model_copy(update={"bad_files_limit": 1.0})
    shards = [_views(backend, paths, options, batch_size=4, rank=rank, world_size=2) for rank in (0, 1)]
    bad = next(shards[1].epoch(0, strong=False)).rows.tolist()
    for row in bad:
        Path(paths[row]).unlink()
    views = _views(backend, paths, options, batch_size=4, rank=1, world_size=2)
    sizes = [[len(batch.rows) for batch in one.epoch(0, strong=False)] for one in (shards[0], views)]
    assert sizes == [[2, 2, 2], [0, 2, 1]]


def test_more_processes_than_images_leave_some_without(backend: Choice, paths: list[str]) -> None:
    sizes = [
        [
            len(batch.rows)
            for batch in _views(backend, paths[:2], rank=rank, world_size=3).epoch(0, strong=True)
        ]
        for rank in range(3)
    ]
    assert sizes == [[1], [1], [0]]


def test_network_and_loss_take_an_empty_batch(paths: list[str]) -> None:
    options = ViewOptions(size=32, bad_files_limit=1.0)
    for path in paths:
        Path(path).unlink()
    batch = next(_views(Choice("torch", ""), paths, options).epoch(0, strong=True))
    assert batch.strong is not None
    net = AssembleNet("densenet121", classes=["a", "b"], in_channels=1).train()
    before = {name: value.clone() for name, value in net.named_buffers() if "num_batches" not in name}
    logits = net(torch.cat([batch.weak, batch.strong]))
    loss = PartialLabelLoss()(logits[:0], logits[0:], batch.targets)
    loss.backward()
    assert float(loss.detach()) == 0.0
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert not bool(parameter.grad.any()), name
    for name, value in before.items():  # nothing was seen, so BatchNorm's statistics stay
        assert torch.equal(net.get_buffer(name), value), name


def test_too_many_bad_files_stop_with_a_list(backend: Choice, paths: list[str]) -> None:
    bad = _damage(paths)
    views = _views(backend, paths, OPTIONS.model_copy(update={"bad_files_limit": 0.2}))
    with pytest.raises(
        LabelAssembleError, match=r"\d of 11 images cannot be read, more than .* = 0\.2 allows"
    ) as raised:
        list(views.epoch(0, strong=False))
    named = sum(paths[row] in str(raised.value) for row in bad)
    assert named == int(str(raised.value)[0]) >= 3


def test_the_first_bad_file_stops_where_that_is_asked_for(backend: Choice, paths: list[str]) -> None:
    Path(paths[4]).write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    views = _views(backend, paths, OPTIONS.model_copy(update={"bad_files": "stop"}))
    with pytest.raises(ImageError, match=r"4\.png: "):
        list(views.epoch(0, strong=False))


def test_one_bad_file_among_many_does_not_end_an_epoch(backend: Choice, tmp_path: Path) -> None:
    files = []
    for index in range(300):
        Image.fromarray(np.full((9, 9), index % 256, dtype=np.uint8)).save(tmp_path / f"{index}.png")
        files.append(str(tmp_path / f"{index}.png"))
    data = bytearray(Path(files[123]).read_bytes())
    data[-20] ^= 0xFF  # within the pixels: what the file is can still be seen
    Path(files[123]).write_bytes(data)
    views = _views(backend, files, ViewOptions(size=8), batch_size=16)
    rows = [row for batch in views.epoch(0, strong=True) for row in batch.rows.tolist()]
    assert sorted(rows) == [row for row in range(300) if row != 123]
    assert list(views.bad_files.errors) == [123]
