"""The inputs that the fuzzer found interesting, run again under the sanitizers."""

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


def test_corpus_passes_under_the_sanitizers(cpp_program: Callable[[str], Path], tmp_path: Path) -> None:
    program = cpp_program("request_replay")
    with tarfile.open(HERE / "fuzz" / "corpus.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    corpus = sorted((tmp_path / "corpus").iterdir())
    assert len(corpus) > 1000
    done = subprocess.run(
        [program, *corpus],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},  # leaks need ptrace, often forbidden
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(corpus)} files\n"
