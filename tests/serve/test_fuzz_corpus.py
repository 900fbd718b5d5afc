"""The inputs that the fuzzer found interesting, run again under the sanitizers."""

import os
import struct
import subprocess
import tarfile
import zlib
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
    with tarfile.open(HERE / "fuzz" / f"{target}_corpus.tar.xz") as file:
        file.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
        file.extractall(tmp_path)
    corpus = sorted((tmp_path / "corpus").iterdir())
    assert len(corpus) > least
    replay(cpp_program(f"{target}_replay"), corpus)


def replay(program: Path, files: list[Path]) -> None:
    done = subprocess.run(
        [program, *files],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},  # leaks need ptrace, often forbidden
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(files)} files\n"


def grey_tiff(
    width: int, height: int, strip: bytes, claimed: int, compression: int = 8, bits: int = 8
) -> bytes:
    """Return a TIFF of one strip, deflated if not told otherwise, that says that it has `claimed` bytes."""
    long, short = 4, 3
    entries = [
        (256, long, width),  # width
        (257, long, height),  # height
        (258, short, bits),
        (259, short, compression),
        (262, short, 1),  # grey
        (273, long, 8),  # where the strip begins
        (277, short, 1),  # samples of a pixel
        (278, long, height),  # rows of a strip
        (279, long, claimed),
    ]
    return tiff_of(entries, strip)


def tiff_of(entries: list[tuple[int, int, int]], strip: bytes) -> bytes:
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory + bytes(4)


@pytest.mark.parametrize("strip_mib", [0, 1.1])
def test_what_libtiff_reads_of_a_claimed_strip_is_admitted(
    cpp_program: Callable[[str], Path], tmp_path: Path, strip_mib: float
) -> None:
    files = []
    for side in (8, 600):
        strip = zlib.compress(bytes(side * side)).ljust(int(strip_mib * (1 << 20)), b"\0")
        for claimed in (len(strip), 1 << 20, 3 << 20, 100 << 20, (1 << 32) - 1):
            files.append(tmp_path / f"{side}-{claimed}.tif")
            files[-1].write_bytes(grey_tiff(side, side, strip, claimed))
    replay(cpp_program("image_replay"), files)


@pytest.mark.parametrize("compression", [2, 3, 4, 32771])
def test_what_libtiff_takes_for_the_runs_of_a_fax_is_admitted(
    cpp_program: Callable[[str], Path], tmp_path: Path, compression: int
) -> None:
    file = tmp_path / "wide.tif"
    file.write_bytes(grey_tiff(65_290, 1, bytes(64), 64, compression, bits=1))
    replay(cpp_program("image_replay"), [file])


def test_tiles_of_a_width_alone_are_admitted(cpp_program: Callable[[str], Path], tmp_path: Path) -> None:
    file = tmp_path / "tiles.tif"
    width, height, rows, tile_width, offset, length = 256, 257, 278, 322, 273, 279
    entries = [(width, 4, 8321), (height, 4, 2563), (offset, 4, 8), (rows, 3, 18), (length, 4, 1 << 24)]
    file.write_bytes(tiff_of([*entries, (tile_width, 3, 8)], b""))
    replay(cpp_program("image_replay"), [file])
