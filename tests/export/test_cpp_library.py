"""The C++ library as an outside CMake project sees it: GoogleTest, the example, the decoders under sanitizers."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelassemble.export import export_torchscript
from labelassemble.models import AssembleNet
from labelassemble.views.preprocess import Preprocess

Program = Callable[[str], Path]


@pytest.fixture
def query_model(tmp_path: Path) -> Path:
    """A model that keeps its queries."""
    classes = ["Nodule", "Edema", "COVID-19"]
    network = AssembleNet("densenet_small", classes=classes, in_channels=1)
    path = tmp_path / "queries.pt"
    images = [np.full((1, 16, 16), 100, np.uint8)]
    export_torchscript(
        network, path, classes=classes, preprocess=Preprocess(1, 16), images=images, queries=True
    )
    return path


def test_google_tests_of_the_library(cpp_program: Program, model: Path, query_model: Path) -> None:
    program = cpp_program("runtime_tests")
    done = subprocess.run(
        [program],
        env={
            **os.environ,
            "LABELASSEMBLE_TEST_MODEL": str(model),
            "LABELASSEMBLE_TEST_QUERIES": str(query_model),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[  PASSED  ]" in done.stdout


def test_outside_project_builds_against_the_installed_library(
    cpp_program: Program, tmp_path: Path, model: Path
) -> None:
    program = cpp_program("classify")
    image = tmp_path / "image.pgm"
    Image.fromarray(np.full((20, 30), 128, np.uint8)).save(image)
    done = subprocess.run([program, model, image], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{image}:")
    assert subprocess.run([program, model, tmp_path / "none.pgm"], check=False).returncode == 1


@pytest.mark.slow
def test_decoders_survive_damage_under_the_sanitizers(cpp_program: Program, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (13, 17), dtype=np.uint8)
    colour = rng.integers(0, 256, (13, 17, 4), dtype=np.uint8)
    seeds = {
        "grey.pgm": Image.fromarray(grey),
        "colour.ppm": Image.fromarray(colour[..., :3]),
        "grey.png": Image.fromarray(grey),
        "alpha.png": Image.fromarray(colour),
        "palette.png": Image.fromarray(colour[..., :3]).quantize(9),
        "bits.png": Image.fromarray(grey > 127),
        "deep.png": Image.fromarray(rng.integers(0, 65536, (13, 17)).astype(np.uint16)),
        "grey.jpg": Image.fromarray(grey),
        "colour.jpg": Image.fromarray(colour[..., :3]),
        "inks.jpg": Image.fromarray(colour[..., :3]).convert("CMYK"),
        "grey.bmp": Image.fromarray(grey),
        "colour.bmp": Image.fromarray(colour[..., :3]),
        "alpha.webp": Image.fromarray(colour),
        "grey.tif": Image.fromarray(grey),
        "colour.tif": Image.fromarray(colour[..., :3]),
        "deep.tif": Image.fromarray(rng.integers(0, 65536, (13, 17)).astype(np.uint16)),
    }
    for name, image in seeds.items():
        image.save(tmp_path / name)
    Image.fromarray(colour[..., :3]).save(tmp_path / "progressive.jpg", progressive=True)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        seeds["colour.tif"].save(tmp_path / f"{compression}.tif", compression=compression)
    paths = sorted(path for path in tmp_path.iterdir() if path.is_file())
    program = cpp_program("decode_mutants")
    # No leak check: it needs ptrace, which containers often forbid.
    done = subprocess.run(
        [program, "1000", *paths],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    decoded, refused = (int(word) for word in done.stdout.split() if word.isdigit())
    assert decoded + refused == 1000 * len(paths)
    assert decoded > 100
    assert refused > 1000
