import hashlib
import io
import os
import resource
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelassemble.errors import LabelAssembleError
from labelassemble.training.checkpoint import load_checkpoint, load_newest, previous, save_checkpoint


def test_what_is_saved_loads_again(tmp_path: Path) -> None:
    state = {"model": {"weight": torch.randn(3)}, "epoch": 4, "sums": [0.1, 2.0], "description": {"a": "b"}}
    save_checkpoint(tmp_path / "checkpoints" / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert torch.equal(loaded["model"]["weight"], state["model"]["weight"])  # type: ignore[index]
    assert (loaded["epoch"], loaded["sums"], loaded["description"]) == (4, [0.1, 2.0], {"a": "b"})


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabelAssembleError, match=r"last\.pt: cannot be written .*No space left"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path: Path) -> None:
    """The file system itself refuses, in the middle of the file: a limit on a file's size, as a disk's on all."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(LabelAssembleError, match=r"last\.pt: cannot be written .*File too large"):
            save_checkpoint(path, {"epoch": 2, "model": torch.zeros(100_000)}, keep_previous=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_a_file_system_without_space_left(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        save_checkpoint(tmp_path / "last.pt", {"epoch": 1})
        with pytest.raises(LabelAssembleError, match=r"cannot be written .*No space left on device"):
            save_checkpoint(tmp_path / "last.pt", {"epoch": 2, "model": torch.zeros(100_000)})
        assert load_checkpoint(tmp_path / "last.pt")["epoch"] == 1
        assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelAssembleError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.pt")
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1, "model": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(
        LabelAssembleError, match=r"last\.pt: not a whole checkpoint \(no checksum at its end\)"
    ):
        load_checkpoint(path)
    _save_with_checksum(path, {"format": 99})
    with pytest.raises(LabelAssembleError, match="a checkpoint of format 2 was expected, got 99"):
        load_checkpoint(path)
    _save_with_checksum(path, [1, 2])
    with pytest.raises(LabelAssembleError, match="a checkpoint of format 2 was expected, got list"):
        load_checkpoint(path)
    with pytest.raises(LabelAssembleError, match="cannot be read"):
        load_checkpoint(tmp_path)


def _save_with_checksum(path: Path, state: object) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    digest = hashlib.sha256(buffer.getvalue()).digest()
    path.write_bytes(buffer.getvalue() + b"labelassemble sha256:" + digest)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_wherever_it_is(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "last.pt"
    save_checkpoint(path, {"epoch": 1, "model": torch.zeros(100)})
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(bytes(data))
    with pytest.raises(
        LabelAssembleError, match=r"last\.pt: .*(damaged \(its checksum|no checksum at its end)"
    ):
        load_checkpoint(path)


def test_torch_alone_reads_a_checkpoint_too(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "best.pt", {"model": {"weight": torch.arange(5.0)}})
    found = torch.load(tmp_path / "best.pt", weights_only=True)
    assert torch.equal(found["model"]["weight"], torch.arange(5.0))


def test_of_a_damaged_checkpoint_the_one_before_it_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.pt"
    for epoch in (1, 2, 3):
        save_checkpoint(path, {"epoch": epoch}, keep_previous=True)
    assert load_newest(path)["epoch"] == 3
    assert not caplog.records
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert load_newest(path)["epoch"] == 2
    assert "last.pt: the checkpoint is damaged" in caplog.text
    assert "going on from the one before it, last.previous.pt" in caplog.text
    previous(path).unlink()
    with pytest.raises(
        LabelAssembleError,
        match=r"damaged .* no other to go on from: .*last\.previous\.pt: no such checkpoint",
    ):
        load_newest(path)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_checkpoint_never_executes_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _save_with_checksum(Path("evil.pt"), {"format": 2, "model": _Evil()})
    with pytest.raises(LabelAssembleError, match="not a readable checkpoint"):
        load_checkpoint(Path("evil.pt"))
    assert not Path("executed").exists()
