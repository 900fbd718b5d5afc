"""The inputs that the fuzzer found interesting, run again under the sanitizers."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGES = {"nlohmann_json": "nlohmann-json3-dev", "ZLIB": "zlib1g-dev"}


def test_corpus_passes_under_the_sanitizers(tmp_path):
    beside = Path(sys.executable).with_name("cmake")
    cmake = str(beside) if beside.exists() else shutil.which("cmake")
    assert cmake is not None, "cmake is needed: pip install cmake"
    done = subprocess.run(
        [cmake, "-S", HERE / "fuzz", "-B", tmp_path], capture_output=True, text=True, check=False
    )
    lacking = re.search(r'Could NOT find (\w+)|configuration file provided by "(\w+)"', done.stderr)
    if lacking is not None:
        package = PACKAGES[lacking[1] or lacking[2]]
        if os.environ.get("LABELASSEMBLE_FAIL_WITHOUT_PACKAGES") == "1":
            pytest.fail(f"needs {package}")
        pytest.skip(f"needs {package}: apt-get install {package}")
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [cmake, "--build", tmp_path, "--target", "request_replay", "--parallel", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(HERE / "fuzz" / "corpus.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    corpus = sorted((tmp_path / "corpus").iterdir())
    assert len(corpus) > 1000
    done = subprocess.run(
        [tmp_path / "request_replay", *corpus],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},  # leaks need ptrace, often forbidden
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(corpus)} files\n"
