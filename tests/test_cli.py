"""The command line as a person meets it: help, exit statuses, one sentence for a mistake."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace

import pytest

from labelassemble.export import load_metadata

Cli = Callable[..., tuple[int, str, str]]


COMMANDS = (
    "doctor",
    "demo",
    "train",
    "evaluate",
    "predict",
    "explain",
    "compare",
    "assemble",
    "views",
    "export",
)


def test_help_names_every_command_and_each_has_its_own(cli: Cli) -> None:
    status, out, _ = cli("--help")
    assert status == 0
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", out)
        assert cli(command, "--help")[0] == 0


def test_doctor_finds_everything_in_order(cli: Cli) -> None:
    status, out, _ = cli("doctor")
    assert status == 0
    for word in (
        "torch",
        "native library",
        "loaded",
        "vectors",
        "CUDA kernels",
        "DALI",
        "labelassemble-predict",
        "labelassemble-serve",
    ):
        assert word in out
    assert "no " not in out.splitlines()[0]
    status, out, _ = cli("doctor", "--cmake-path")
    assert status == 0
    assert (Path(out.strip()) / "labelassemble" / "labelassembleConfig.cmake").exists()
    assert "cmake_path()" in cli("doctor", "--help")[1]


@pytest.mark.parametrize(
    ("formats", "what"),
    [
        (("PNG", "JPEG", "TIFF", "WebP"), "BMP, PGM, PPM are not: the native library is older"),
        (("PNG", "JPEG", "BMP", "PGM", "PPM"), "TIFF: built without libtiff; WebP: built without libwebp"),
        ((), "lacks its decoders"),
    ],
)
def test_doctor_says_what_is_wrong_with_the_decoders(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, formats: tuple[str, ...], what: str
) -> None:
    decoders = SimpleNamespace(formats=lambda: formats) if formats else None
    monkeypatch.setattr("labelassemble._native.load_decoders", lambda: decoders)
    status, out, _ = cli("doctor")
    assert status != 0
    assert what in " ".join(out.split())


def test_doctor_names_the_extra_of_what_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    missing = ("monai", "nibabel")
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name in missing else found(name, *rest)
    )
    _, out, _ = cli("doctor")
    assert " ".join(out.split()).count("pip install 'labelassemble[ct]'") == 2  # brackets are no markup


def test_train_evaluate_predict_export_on_one_run(cli: Cli, small_sources: Path) -> None:
    run = small_sources / "[red]" / "out"  # a folder's name is no markup
    status, out, _ = cli("train", small_sources / "run.yaml", "train.epochs=1", "-o", run)
    assert status == 0
    assert "epoch 1/1" in out
    assert "square" in out
    assert str(run / "report.html") in out

    status, out, _ = cli("evaluate", run)
    assert status == 0
    assert "AUROC" in out

    images = [small_sources / "images" / f"north-{index}.png" for index in range(3)]
    status, out, _ = cli("predict", run, *images)
    assert status == 0
    lines = out.strip().splitlines()
    assert lines[0] == "path,probability:square,probability:stripe"
    assert len(lines) == 4
    assert 0 <= float(lines[1].split(",")[1]) <= 1
    status, _, _ = cli("predict", run, *images, "-o", small_sources / "answers.csv")
    assert status == 0
    assert (small_sources / "answers.csv").read_text().strip() == out.strip()

    status, out, _ = cli("export", run)
    assert status == 0
    assert set(load_metadata(run / "model.pt").thresholds or ()) == {"square", "stripe"}

    chosen = {
        "method": "temperature",
        "temperature": 2.0,
        "thresholds": {"specificity=0.95": 0.6, "specificity=0.9": 0.4},
    }
    calibration = {"format": 2, "classes": {"square": chosen, "stripe": chosen}}
    (run / "calibration.json").write_text(json.dumps(calibration))
    models = small_sources / "models"
    status, out, _ = cli(
        "export",
        run,
        "--format",
        "triton",
        "--queries",
        "--precision",
        "bfloat16",
        "--specificity",
        0.9,
        "-o",
        models,
    )
    assert status == 0
    assert str(models / "out") in out
    metadata = load_metadata(models / "out" / "1" / "model.pt")
    assert metadata.thresholds == {"square": 0.4, "stripe": 0.4}
    assert metadata.temperatures == {"square": 2.0, "stripe": 2.0}
    assert (metadata.queries, metadata.precision) == (True, "bfloat16")
    for options, sentence in (
        (["--format", "torch"], "unknown format 'torch', did you mean 'torchscript'?"),
        (["--precision", "half"], "precision must be float32 or bfloat16, got 'half'"),
        (
            ["--dali"],
            "queue_delay_us, dali and model_format are of a model repository (triton), got the format torchscript",
        ),
        (
            ["--name", "x"],
            "name, version, max_batch, queue_delay_us, dali and model_format are of a model repository (triton)",
        ),
        (
            ["--specificity", 0.5],
            "no threshold for specificity=0.5, known: specificity=0.95, specificity=0.9",
        ),
    ):
        status, _, error = cli("export", run, *options)
        assert status == 2
        assert sentence in error

    status, out, _ = cli("train", run, "--resume")
    assert status == 0


def test_assemble_prints_and_writes_the_table(cli: Cli, small_sources: Path) -> None:
    status, out, _ = cli("assemble", small_sources / "run.yaml", "-o", small_sources / "table.csv")
    assert status == 0
    assert "north" in out
    assert len((small_sources / "table.csv").read_text().splitlines()) == 49
    assert not (small_sources / "runs").exists()


def test_assemble_draws_coverage_and_names_each_bad_image(cli: Cli, small_sources: Path) -> None:
    picture = small_sources / "coverage.svg"
    status, out, _ = cli("assemble", small_sources / "run.yaml", "--picture", picture, "--check-images")
    assert status == 0
    assert "all 48 images can be read" in out
    assert "<svg" in picture.read_text()
    for name in ("north-1.png", "south-2.png"):
        (small_sources / "images" / name).write_text(f"rubbish {name}")
    status, out, _ = cli("assemble", small_sources / "run.yaml", "--check-images")
    assert status == 2
    assert "2 of 48 images cannot be read" in out
    assert "north-1.png" in out
    assert "south-2.png" in out
    (small_sources / "images" / "south-2.png").unlink()
    status, out, _ = cli("assemble", small_sources / "run.yaml")
    assert status == 0
    assert re.search(r"files that do not exist: 1, the first: .*south-2\.png", out)
    status, _, err = cli("assemble", small_sources / "run.yaml", "--picture", "coverage.jpg")
    assert status == 2
    assert "--picture must end in .svg or .png" in err


def test_a_class_that_nobody_labels_yet_ends_nothing(cli: Cli, small_sources: Path) -> None:
    table = small_sources / "north.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},blank", *(f"{row}," for row in rows)]) + "\n")
    config, run = small_sources / "run.yaml", small_sources / "out"
    told = "warning: class 'blank' is labelled by no source (each of its cells is blank): its figures are not defined"
    status, out, err = cli("train", config, "train.epochs=1", "interest=[blank]", "-o", run)
    assert status == 0, err
    assert told in out
    assert re.search(r"^blank +all +0 +0 +12 +not defined", out, re.MULTILINE)
    for arguments in (("evaluate", run), ("evaluate", run, "--data", config, "--split", "test")):
        status, out, err = cli(*arguments)
        assert status == 0, err
        assert re.search(r"^blank +all +0 +0 +12 +not defined", out, re.MULTILINE)
    assert told.replace("warning", "Warning", 1) in out
    assert cli("export", run)[0] == 0
    assert tuple(load_metadata(run / "model.pt").classes) == ("square", "blank", "stripe")


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["assemble", "run.yaml", "-o", "out.csv", "--picture", "out.svg"], ["out.csv", "out.svg"]),
        (["train", "run.yaml", "-o", "out"], ["out/report.html", "out/predictions.csv"]),
        (["views", "run.yaml", "--image", "images/north-0.png", "-o", "out.png"], ["out.png"]),
    ],
)
def test_a_reader_that_goes_away_loses_no_file(
    small_sources: Path, begin_cli: Callable[..., ForkServerProcess], arguments: list[str], written: list[str]
) -> None:
    process = begin_cli(small_sources, *arguments, read=False)  # as `head` does when it has what it wants
    process.join(120)
    assert (process.exitcode, (small_sources / "stderr.txt").read_text()) == (0, "")
    assert all((small_sources / name).stat().st_size for name in written)


def test_an_interpreter_whose_reader_goes_away_ends_well(small_sources: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "labelassemble", "assemble", "run.yaml", "-o", "out.csv"]
    try:
        done = subprocess.run(
            command, cwd=small_sources, stdout=write, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
    assert (small_sources / "out.csv").stat().st_size


def test_views_draws_the_policy(cli: Cli, small_sources: Path) -> None:
    image, picture = small_sources / "images" / "north-1.png", small_sources / "grid.png"
    status, out, _ = cli("views", small_sources / "run.yaml", "--image", image, "-o", picture, "--count", 2)
    assert status == 0
    assert str(picture) in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    status, _, err = cli("views", small_sources / "run.yaml", "--image", "gone.png", "-o", picture)
    assert status == 2
    assert "gone.png" in err


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (None, ["absent.yaml"], r"absent\.yaml: no such configuration file"),
        (None, ["run.yaml", "train.epohcs=3"], r"unknown key 'train\.epohcs', did you mean 'epochs'\?"),
        (None, ["run.yaml", "sources.0.path=nowhere.csv"], r"nowhere\.csv"),
        (None, ["run.yaml", "classes=[square, stripe, circle]"], r"'circle'"),
        (("north.csv", "path,split,square\n"), ["run.yaml"], r"north"),
        (
            ("north.csv", "path,split,square\nimages/north-1.png,train,7\n"),
            ["run.yaml"],
            r"north\.csv.*2.*square.*7",
        ),
        (("images/north-1.png", "rubbish"), ["run.yaml"], r"north-1\.png"),
        (
            ("south.csv", "path,split,stripe\nimages/gone.png,train,1\nimages/away.png,train,0\n"),
            ["run.yaml"],
            r"does not exist: .*gone\.png, and 1 more",
        ),
        (None, ["images"], r"images is a folder, not a configuration"),
        (None, ["images", "--resume"], r"images holds no run"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    cli: Cli,
    small_sources: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: tuple[str, str] | None,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(small_sources)
    if change is not None:
        (small_sources / change[0]).write_text(change[1])
    status, _, err = cli("train", *arguments)
    assert status == 2
    assert re.search(sentence, err), err
    assert err.startswith("labelassemble: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["evaluate", "nowhere"], r"nowhere holds no trained model"),
        (["export", "nowhere"], r"nowhere holds no trained model"),
        (["predict", "nowhere", "x.png"], r"nowhere holds no trained model"),
        (["demo", "-o", "images"], r"images is not empty"),
        (["demo", "-o", "images", "--overwrite"], r"images holds something else than a demo"),
        (["demo", "-o", "run.yaml/demo"], r"run\.yaml/demo.*: cannot be made \(Not a directory\)"),
        (["demo", "-o", "run.yaml"], r"run\.yaml.*: cannot be made"),
        (["train", "run.yaml", "-o", "run.yaml"], r"run\.yaml: cannot be made \(File exists\)"),
        (["train", "run.yaml", "-o", "/proc/run"], r"/proc/run: cannot be made"),
        (["assemble", "images"], r"images: cannot be read as a configuration \(Is a directory\)$"),
        (["trian"], r"trian"),
        (["train"], r"CONFIG"),
    ],
)
def test_other_mistakes(
    cli: Cli, small_sources: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(small_sources)
    status, _, err = cli(*arguments)
    assert status == 2
    assert re.search(sentence, err), err


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(
    small_sources: Path, begin_cli: Callable[..., ForkServerProcess]
) -> None:
    process = begin_cli(small_sources, "train", "run.yaml", "train.epochs=2000", "-o", "out")
    said = small_sources / "stderr.txt"
    deadline = time.monotonic() + 120
    while not (small_sources / "out" / "checkpoints" / "last.pt").exists():
        assert process.is_alive(), said.read_text()
        assert time.monotonic() < deadline, "no checkpoint after two minutes"
        time.sleep(0.1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130, said.read_text()
    assert "go on with: labelassemble train out --resume" in said.read_text()
    assert (small_sources / "out" / "checkpoints" / "last.pt").exists()
