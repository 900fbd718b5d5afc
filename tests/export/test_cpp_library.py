"""The C++ library as an outside CMake project sees it: GoogleTest, the example, the decoders under sanitizers."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelassemble.export import cmake_path

ROOT = Path(__file__).parents[2]


def cmake(source: Path, build: Path, target: str, *definitions: str) -> Path:
    """Configure and build one target; return the program."""
    command = shutil.which("cmake")
    assert command is not None, "cmake is needed: pip install cmake"
    definitions = (f"-DCMAKE_PREFIX_PATH={cmake_path()}", "-DCMAKE_BUILD_TYPE=Debug", *definitions)
    for step in (["-S", source, "-B", build, *definitions], ["--build", build, "--target", target]):
        done = subprocess.run([command, *step], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / target


def test_google_tests_of_the_library(tmp_path: Path, model: Path) -> None:
    program = cmake(ROOT / "tests" / "cpp", tmp_path, "runtime_tests")
    done = subprocess.run(
        [program],
        env={**os.environ, "LABELASSEMBLE_TEST_MODEL": str(model), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[  PASSED  ]" in done.stdout


def test_outside_project_builds_against_the_installed_library(tmp_path: Path, model: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "cpp", project)
    program = cmake(project, tmp_path / "build", "classify")
    image = tmp_path / "image.png"
    Image.fromarray(np.full((20, 30), 128, np.uint8)).save(image)
    done = subprocess.run([program, model, image], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{image}:")
    assert subprocess.run([program, model, tmp_path / "none.png"], check=False).returncode == 1


@pytest.mark.slow
def test_decoders_survive_damage_under_the_sanitizers(tmp_path: Path) -> None:
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
    }
    for name, image in seeds.items():
        image.save(tmp_path / name)
    Image.fromarray(colour[..., :3]).save(tmp_path / "progressive.jpg", progressive=True)
    paths = sorted(path for path in tmp_path.iterdir() if path.is_file())
    program = cmake(ROOT / "tests" / "cpp", tmp_path / "build", "decode_mutants", "-DSANITIZE=ON")
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
