"""Mistakes and mishaps that the command line answers with one sentence."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from labelassemble._yaml import read_mapping
from labelassemble.config import load_config, make_config
from labelassemble.data import CsvSource, DicomSource, assemble
from labelassemble.errors import LabelAssembleError
from labelassemble.export.files import written_whole
from labelassemble.training.options import TrainOptions
from labelassemble.training.state import TrainState

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "labelassemble: stopped"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "labelassemble: a file: cannot be written (No space",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            2,
            "a/b: cannot be read or written (Permission",
        ),
    ],
)
def test_what_ends_a_command(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, message: str
) -> None:
    def raising(*_: object) -> None:
        raise error

    monkeypatch.setattr("labelassemble.config.load_config", raising)
    got, _, err = cli("assemble", "a.yaml")
    assert got == status
    assert message in err
    assert err.strip().count("\n") == 0


def test_a_run_that_is_not_there_is_not_resumed(cli: Cli, small_sources: Path) -> None:
    status, _, err = cli("train", small_sources / "run.yaml", "-o", small_sources / "absent", "--resume")
    assert (status, err.count("\n")) == (2, 1)
    assert "absent holds no run that could be resumed" in err
    assert not (small_sources / "absent").exists()
    status, _, err = cli("train", small_sources / "absent", "--resume")
    assert (status, err.count("\n")) == (2, 1)
    assert "absent holds no run: the folder does not exist" in err


def test_a_batch_that_repeats_few_images_many_times_is_refused(cli: Cli, small_sources: Path) -> None:
    run = small_sources / "large"
    status, _, err = cli("train", small_sources / "run.yaml", "-o", run, "train.batch_size=100000")
    assert status == 2
    assert "train.batch_size must be at most the number of training images, " in err
    assert "or 1024 where there are fewer, got 100000" in err


def test_views_are_a_png(cli: Cli, small_sources: Path) -> None:
    image = small_sources / "images" / "north-0.png"
    status, _, err = cli("views", small_sources / "run.yaml", "--image", image, "-o", small_sources / "v.jpg")
    assert (status, err) == (
        2,
        f"labelassemble: --output must end in .png, got '{small_sources / 'v.jpg'}'\n",
    )
    assert not (small_sources / "v.jpg").exists()


def test_a_wrong_root_is_named(cli: Cli, small_sources: Path) -> None:
    status, out, _ = cli("assemble", small_sources / "run.yaml", "sources.0.root=images", "duplicates=path")
    assert status == 0
    assert "files that do not exist: 24, the first: " in out
    assert (
        "no image of source 'north' is there: its paths start at another folder, which its key `root` has to"
        in out
    )
    assert "source 'south' is there" not in out


def test_configurations(tmp_path: Path) -> None:
    with pytest.raises(LabelAssembleError, match="'sources' must have at least one entry, got none"):
        make_config({"sources": []}, base=tmp_path)
    source = {"name": "a", "reader": "csv", "path": "a.csv"}
    with pytest.raises(LabelAssembleError, match=r"'preset' must be .*, got 'papr', did you mean 'paper'\?"):
        make_config({"sources": [source], "preset": "papr"}, base=tmp_path)
    with pytest.raises(LabelAssembleError, match=r"'model\.head' must be .*, did you mean 'class_query'\?"):
        make_config({"sources": [source], "model": {"head": "class_qery"}}, base=tmp_path)
    path = tmp_path / "merged.yaml"
    path.write_text(
        "sources:\n"
        "  - &first {name: a, reader: csv, path: a.csv, limit: 3}\n"
        "  - {<<: *first, name: b, path: b.csv}\n"
    )
    assert [(source.name, source.limit) for source in load_config(path).sources] == [("a", 3), ("b", 3)]
    path.write_text("a: &x {b: 1}\nc: {<<: *x, b: 2, b: 3}\n")
    with pytest.raises(LabelAssembleError, match="the key 'b' is given twice"):
        read_mapping(path)


def test_texts_of_a_table_stay_what_they_are(small_sources: Path) -> None:
    table = CsvSource(name="n", path=small_sources / "north.csv").read()
    for column in (table.paths, table.sources, table.groups):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = "other"  # type: ignore[index]


def test_a_dicom_source_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csv = tmp_path / "a.csv"
    csv.write_text("path,Edema\na.png,\n")
    blank = CsvSource(name="x", path=csv).read()
    monkeypatch.setattr(DicomSource, "read", lambda self, subgroups=(): blank)
    with pytest.raises(
        LabelAssembleError, match="source 'd' has no table of labels, which its key `labels` names"
    ):
        assemble([DicomSource(name="d", root=tmp_path)], duplicates="path")


def test_an_export_that_cannot_take_its_place(tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    target.mkdir()
    with (
        pytest.raises(LabelAssembleError, match=r"model\.pt: cannot be written \(Is a directory\)"),
        written_whole(target) as temporary,
    ):
        temporary.write_text("x")
    with (
        pytest.raises(LabelAssembleError, match=r"other\.pt: cannot be written \(No space left on device\)"),
        written_whole(tmp_path / "other.pt"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_damaged_cache_of_the_compiler() -> None:
    def network(images: torch.Tensor) -> torch.Tensor:
        raise EOFError("Ran out of input")

    state = object.__new__(TrainState)
    state.network = network  # type: ignore[assignment]
    with pytest.raises(
        LabelAssembleError, match=r"torch\.compile fails \(Ran out of input\): remove its cache /"
    ):
        state._compiled(torch.zeros(1), [])
    assert TrainOptions().compile == "auto"
