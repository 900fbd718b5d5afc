"""labelassemble-predict, run as a person or a script runs it: answers, formats, and one sentence on bad input."""

import csv
import io
import json
import math
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from labelassemble import _native
from labelassemble.data.images import decode_image
from labelassemble.errors import LabelAssembleError
from labelassemble.export import export_torchscript, find_program, native, run_program
from labelassemble.views.preprocess import Preprocess

Images = list[NDArray[np.uint8]]
Eager = Callable[[nn.Module, Preprocess, Images], NDArray[np.float32]]


def predict(*arguments: str | bytes | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program, with what it prints kept."""
    return subprocess.run(
        [find_program(), *arguments], input=given, capture_output=True, encoding="utf-8", check=False
    )


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    path = tmp_path / "grey.pgm"
    path.write_bytes(b"P5\n4 3\n255\n" + bytes(range(0, 240, 20)))
    return path


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_program_answers_as_python(
    model: Path, network: nn.Module, preprocess: Preprocess, images: Images, eager: Eager, batch: int
) -> None:
    answer = run_program(model, images, batch=batch, threads=1)
    assert answer.shape == (len(images), 2)
    np.testing.assert_allclose(answer, eager(network, preprocess, images), atol=1e-6)


def test_program_reads_encoded_images_as_python_does(
    tmp_path: Path,
    model: Path,
    network: nn.Module,
    preprocess: Preprocess,
    eager: Eager,
    absent: Callable[[str], NoReturn],
) -> None:
    """Each kind of file gives the pixels that labelassemble.data gives: the answers agree closely."""
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (9, 14), dtype=np.uint8)
    colour = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (9, 14, 4), dtype=np.uint8)
    smooth = np.add.outer(np.arange(40), np.arange(37)).astype(np.uint8)
    deep = rng.integers(0, 65536, (9, 14)).astype(np.uint16)
    kinds = {
        "grey.png": Image.fromarray(grey),
        "grey-alpha.png": Image.fromarray(alpha[..., :2], "LA"),
        "colour.png": Image.fromarray(colour),
        "alpha.png": Image.fromarray(alpha),
        "palette.png": Image.fromarray(colour).quantize(7),
        "bits.png": Image.fromarray(grey > 127),
        "deep.png": Image.fromarray(deep),
        "grey.jpg": Image.fromarray(smooth),
        "inks.jpg": Image.fromarray(colour).convert("CMYK"),
        "colour.tif": Image.fromarray(colour),
        "deep.tif": Image.fromarray(deep),
        "colour.webp": Image.fromarray(colour),
        "colour.bmp": Image.fromarray(colour),
        "deep.pgm": Image.fromarray(deep),
        "colour.jpg": Image.fromarray(np.stack([smooth, smooth[::-1], 255 - smooth], -1)),
    }
    paths = []
    for name, image in kinds.items():
        paths.append(tmp_path / name)
        image.save(paths[-1])
    transparent = tmp_path / "transparent.png"
    Image.fromarray(grey).save(transparent, transparency=int(grey[0, 0]))
    progressive = tmp_path / "progressive.jpg"
    kinds["colour.jpg"].save(progressive, progressive=True, quality=40)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds["colour.jpg"].save(turned, exif=exif)
    paths += [transparent, progressive, turned]

    readable = predict("--version").stdout.split()
    for suffix, format, library in (
        (".png", "PNG", "libpng"),
        (".jpg", "JPEG", "libjpeg"),
        (".tif", "TIFF", "libtiff"),
        (".webp", "WebP", "libwebp"),
    ):
        if format not in readable:
            refused = predict(model, next(path for path in paths if path.suffix == suffix))
            assert refused.returncode == 2
            assert f"{format}: built without {library}: install {library}-dev" in refused.stderr
            absent(f"{library}-dev")

    done = predict(model, *paths, "--format", "json")
    assert done.returncode == 0, done.stderr
    answers = {
        image["path"]: list(image["probabilities"].values()) for image in json.loads(done.stdout)["images"]
    }
    for path in paths:
        expected = eager(network, preprocess, [decode_image(path)])[0]
        np.testing.assert_allclose(answers[str(path)], expected, atol=1e-6, err_msg=path.name)


def test_json_gives_names_thresholds_and_every_digit(model: Path, grey: Path) -> None:
    done = predict(model, grey, "--format=json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["classes"] == ["one", "two, too"]
    assert answer["thresholds"] == [0.25, 0.75]
    [image] = answer["images"]
    assert image["path"] == str(grey)
    assert list(image["probabilities"]) == answer["classes"]
    pixels = torch.from_numpy(decode_image(grey).copy())[None]
    exact = torch.jit.load(model)(pixels)[0].tolist()
    for value, wanted in zip(image["probabilities"].values(), exact, strict=True):
        assert abs(value - wanted) <= 1e-7  # more digits than a table's four


def test_csv_is_quoted_and_named_as_predictions_are(model: Path, grey: Path) -> None:
    odd = grey.rename(grey.with_name('a "b", c.pgm'))
    done = predict(model, odd, "--format", "csv")
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert rows[0] == ["path", "probability:one", "probability:two, too"]
    assert rows[1][0] == str(odd)
    assert all(0 < float(cell) < 1 for cell in rows[1][1:])


def test_table_marks_what_reaches_its_threshold(model: Path, grey: Path) -> None:
    lines = predict(model, grey).stdout.splitlines()
    assert lines[0].split() == ["image", "one", "two,", "too"]
    cells = lines[1].split()
    assert cells[0] == str(grey)
    values = json.loads(predict(model, grey, "--format", "json").stdout)["images"][0]["probabilities"]
    for cell, value, threshold in zip(cells[1:], values.values(), (0.25, 0.75), strict=True):
        assert cell == f"{value:.4f}" + ("*" if value >= threshold else "")


def test_a_class_without_a_threshold_gets_no_decision(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images, grey: Path
) -> None:
    path = tmp_path / "m.pt"
    for thresholds, in_json, marks in (
        ({"one": 0.0, "two, too": None}, [0, None], ("*", "?")),
        ({"one": math.inf, "two, too": 0.0}, ["Infinity", 0], ("", "*")),
    ):
        export_torchscript(
            network,
            path,
            classes=("one", "two, too"),
            preprocess=preprocess,
            images=images,
            thresholds=thresholds,
        )
        assert json.loads(predict(path, grey, "--format", "json").stdout)["thresholds"] == in_json
        cells = predict(path, grey).stdout.splitlines()[1].split()[1:]
        assert tuple(cell.lstrip("0123456789.") for cell in cells) == marks


def test_images_come_from_lists_and_the_standard_input(tmp_path: Path, model: Path, grey: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(f"{grey}\r\n\n{grey}\n")
    done = predict(model, grey, "--list", listing, "--list=-", "--format", "csv", given=f"{grey}\n")
    assert len(done.stdout.splitlines()) == 1 + 4


def test_json_is_valid_whatever_the_name_of_a_file(tmp_path: Path, model: Path, grey: Path) -> None:
    names = ["ünï → 画.pgm", 'q"u\\o\x01t\te.pgm', "emoji 🩻.pgm"]
    paths: list[bytes] = [os.fsencode(tmp_path / name) for name in names]
    paths.append(os.fsencode(tmp_path) + b"/not-\xff\xc0\xaf-utf8\xed\xa0\x80.pgm")
    for path in paths:
        Path(os.fsdecode(path)).write_bytes(grey.read_bytes())
    done = predict(model, *paths, "--format", "json")
    assert done.returncode == 0, done.stderr
    given = [Path(image["path"]).name for image in json.loads(done.stdout)["images"]]
    assert given[:3] == names
    assert given[3].startswith("not-\ufffd")
    assert given[3].endswith(".pgm")


def test_help_and_version(model: Path) -> None:
    for arguments in (["--help"], ["-h"], [model, "--help"]):
        done = predict(*arguments)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: labelassemble-predict MODEL IMAGE...")
    assert re.match(r"labelassemble-predict \d+\.\d+.*, reads .*BMP PGM PPM", predict("--version").stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "a MODEL and at least one IMAGE are needed (see --help)"),
        (["{model}"], "at least one IMAGE is needed, or --list FILE (see --help)"),
        (["none.pt", "{grey}"], "none.pt: no such model"),
        (["{folder}", "{grey}"], "{folder}: a model must be a regular file"),
        (["{grey}", "{grey}"], "{grey}: not a TorchScript file"),
        (["{plain}", "{grey}"], "{plain}: not exported by labelassemble"),
        (["{state}", "{grey}"], "{state}: not a TorchScript file that loads on cpu"),
        (["{cut}", "{grey}"], "{cut}: not a TorchScript file that loads on cpu"),
        (["{model}", "none.pgm"], "none.pgm: no such image"),
        (["{model}", "{folder}"], "{folder}: an image must be a regular file"),
        (
            ["{model}", "{grey}", "{model}"],
            "{model}: not an image of a known kind: expected PNG, JPEG, TIFF, WebP, BMP, or binary PGM or PPM",
        ),
        (["{model}", "{grey}", "--batch", "0"], "--batch must be a whole number from 1 to 65536, got '0'"),
        (["{model}", "{grey}", "--batch", "1x"], "--batch must be a whole number from 1 to 65536, got '1x'"),
        (["{model}", "{grey}", "--threads=-1"], "--threads must be a whole number from 1 to 65536, got '-1'"),
        (["{model}", "{grey}", "--format", "xml"], "--format must be table, json or csv, got 'xml'"),
        (["{model}", "{grey}", "--format"], "--format needs a value (see --help)"),
        (["{model}", "{grey}", "--bach", "3"], "unknown option '--bach' (see --help)"),
        (["{model}", "{grey}", "--list", "none.txt"], "none.txt: the list of images cannot be opened"),
        (["{model}", "{grey}", "--device", "gpu"], "device must be cpu, cuda or cuda:N, got 'gpu'"),
    ],
)
def test_mistakes_end_with_status_2_and_one_sentence(
    tmp_path: Path, model: Path, grey: Path, arguments: list[str], sentence: str
) -> None:
    places = {"model": model, "grey": grey, "folder": tmp_path}
    for name in ("plain", "state", "cut"):
        places[name] = tmp_path / f"{name}.pt"
    torch.jit.script(nn.ReLU()).save(places["plain"])
    torch.save({"weight": torch.zeros(3)}, places["state"])
    places["cut"].write_bytes(model.read_bytes()[:5000])
    done = predict(*[argument.format(**places) for argument in arguments])
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("labelassemble-predict: " + sentence.format(**places))
    assert done.stderr.count("\n") == 1


def _damaged(tmp_path: Path) -> dict[str, bytes]:
    pixels = Image.fromarray(np.arange(4096, dtype=np.uint16).astype(np.uint8).reshape(64, 64))
    encoded = {}
    for kind in ("png", "jpeg"):
        buffer = io.BytesIO()
        pixels.save(buffer, kind)
        encoded[kind] = buffer.getvalue()
    huge = bytearray(encoded["png"])
    huge[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    gif = io.BytesIO()
    pixels.save(gif, "gif")
    return {
        "empty.pgm": b"",
        "cut.pgm": b"P5\n64 64\n255\n" + bytes(100),
        "zero.pgm": b"P5\n0 64\n255\n",
        "huge.pgm": b"P5\n1000000 1000000\n255\n" + bytes(100),
        "text.png": b"this is no image\n",
        "garbage.png": encoded["png"][:8] + bytes(range(200)),
        "cut.png": encoded["png"][: len(encoded["png"]) // 2],
        "huge.png": bytes(huge),
        "flipped.png": encoded["png"][:60] + bytes([encoded["png"][60] ^ 0xFF]) + encoded["png"][61:],
        "cut.jpeg": encoded["jpeg"][: len(encoded["jpeg"]) // 2],
        "garbage.jpeg": encoded["jpeg"][:3] + bytes(range(200)),
        "ended.jpeg": encoded["jpeg"][: len(encoded["jpeg"]) // 2] + b"\xff\xd9",
        "other.gif": gif.getvalue(),
    }


def test_damaged_images_end_with_status_2_and_their_name(tmp_path: Path, model: Path, grey: Path) -> None:
    for name, content in _damaged(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        done = predict(model, grey, path)
        assert done.returncode == 2, name
        assert done.stdout == "", name
        assert done.stderr.startswith(f"labelassemble-predict: {path}: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_no_python_in_the_process() -> None:
    linked = subprocess.run(["ldd", find_program()], capture_output=True, text=True, check=True).stdout
    assert "liblabelassemble_runtime.so" in linked
    assert "libtorch_cpu.so" in linked
    assert "not found" not in linked
    assert "libpython" not in linked
    assert "torch_python" not in linked


def test_run_program_says_what_the_program_says(tmp_path: Path, images: Images, model: Path) -> None:
    with pytest.raises(LabelAssembleError, match=r"ended with status 2: .*none\.pt: no such model"):
        run_program(tmp_path / "none.pt", images)
    with pytest.raises(LabelAssembleError, match="images must hold at least one image"):
        run_program(model, [])
    with pytest.raises(
        LabelAssembleError, match=r"images must be uint8 .*, got float64 \[1, 2, 2\] for image 1"
    ):
        run_program(model, [images[0], np.zeros((1, 2, 2))])  # type: ignore[list-item]


def test_find_program_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_native_folder", lambda: tmp_path)
    with pytest.raises(LabelAssembleError, match=r"labelassemble-predict was not built: .* pip install"):
        find_program()
    with pytest.raises(LabelAssembleError, match=r"package for CMake is not in .* pip install"):
        native.cmake_path()


def test_a_server_that_was_not_built_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., tuple[int, str, str]]
) -> None:
    binding, _ = _native.load_binding()
    assert binding is not None
    lacks = "its libraries are not there; to change that: apt-get install libboost-dev zlib1g-dev"
    info = {**binding.build_info(), "serve": False, "serve_reason": lacks}
    monkeypatch.setattr(native, "_native_folder", lambda: tmp_path)
    monkeypatch.setattr(
        _native,
        "load_binding",
        lambda: (SimpleNamespace(build_info=lambda: info, cpu_capability=lambda: "avx2"), ""),
    )
    said = (
        r"not built: its libraries are not there; .*apt-get install libboost-dev zlib1g-dev, then build again"
    )
    with pytest.raises(LabelAssembleError, match=f"labelassemble-serve was {said}"):
        find_program("labelassemble-serve")
    status, _, error = cli("serve", "--model-repository", tmp_path)
    assert status == 2
    assert re.search(said, error)
    assert re.search(said, " ".join(cli("doctor")[1].split()))


def test_an_answer_that_is_not_finite_is_an_error_with_image_and_class(
    tmp_path: Path, overflowing: nn.Module, preprocess: Preprocess
) -> None:
    model, shades = tmp_path / "m.pt", (60, 90, 255)
    export_torchscript(
        overflowing,
        model,
        classes=overflowing.classes,
        preprocess=preprocess,
        images=[np.full((1, 4, 4), 60, np.uint8)],
    )
    files = [tmp_path / f"{shade}.png" for shade in shades]
    for shade, file in zip(shades, files, strict=True):
        Image.fromarray(np.full((4, 4), shade, np.uint8)).save(file)
    for format in ("table", "json", "csv"):
        done = predict(model, *files, "--batch", "2", "--format", format)
        said = (
            f"labelassemble-predict: {files[2]}: the model's answer for 'two, too' must be finite, got nan\n"
        )
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert predict(model, *files[:2]).returncode == 0
