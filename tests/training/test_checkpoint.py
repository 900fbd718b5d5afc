import os
from pathlib import Path

import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.training.checkpoint import load_checkpoint, save_checkpoint


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
    with pytest.raises(LabelAssembleError, match=r"last\.pt: cannot write the checkpoint .*No space left"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelAssembleError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.pt")
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1, "model": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(LabelAssembleError, match=r"last\.pt: not a readable checkpoint"):
        load_checkpoint(path)
    torch.save({"format": 99}, path)
    with pytest.raises(LabelAssembleError, match="a checkpoint of format 1 was expected, got 99"):
        load_checkpoint(path)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_checkpoint_never_executes_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "model": _Evil()}, "evil.pt")
    with pytest.raises(LabelAssembleError, match="not a readable checkpoint"):
        load_checkpoint(Path("evil.pt"))
    assert not Path("executed").exists()
