"""The inputs that the fuzzer found interesting, run again under the sanitizers."""

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("target", "least"), [("request", 1000), ("grpc", 40), ("http", 100), ("image", 100)]
)
def test_corpus_passes_under_the_sanitizers(
    cpp_program: Callable[[str], Path], tmp_path: Path, target: str, least: int
) -> None:
    program = cpp_program(f"{target}_replay")
    with tarfile.open(HERE / "fuzz" / f"{target}_corpus.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    corpus = sorted((tmp_path / "corpus").iterdir())
    assert len(corpus) > least
    done = subprocess.run(
        [program, *corpus],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},  # leaks need ptrace, often forbidden
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(corpus)} files\n"
