"""Fuzzes what hostile clients of the server reach, with libFuzzer under sanitizers, for some CPU time.

    python tests/fuzz_server.py http                      # 30 CPU-minutes; also: request, image, grpc
    python tests/fuzz_server.py image --cpu-minutes 5 --keep

Needs clang++ with its runtime (Debian: clang libclang-rt-14-dev). It begins with the corpus that the tests replay
(tests/serve/fuzz/*_corpus.tar.xz) and with what earlier runs left in build/fuzz; --keep writes the smallest corpus that
covers as much as both to the archive. A finding is said with the file that shows it, and the exit status is 1;
`build/fuzz/TARGET_replay FILE` repeats it.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE / "serve" / "fuzz"
BUILD = HERE.parent / "build" / "fuzz"
LARGEST = {"http": 8192, "request": 4096, "image": 4096, "grpc": 4096}  # bytes of an input
SLICE_S = 300.0


def build(target: str, compiler: str) -> None:
    """Compile the fuzzer of one target."""
    options = ["-DCMAKE_BUILD_TYPE=None", f"-DCMAKE_CXX_COMPILER={compiler}"]
    subprocess.run(["cmake", "-S", SOURCE, "-B", BUILD, *options], check=True, stdout=subprocess.DEVNULL)
    programs = [f"{target}_fuzzer", f"{target}_replay"]
    subprocess.run(["cmake", "--build", BUILD, "--parallel", "2", "--target", *programs], check=True)


def unpack(target: str) -> list[Path]:
    """Return the folders of inputs: those found anew, which libFuzzer adds to, and the archive's."""
    folder = BUILD / target
    (folder / "new").mkdir(parents=True, exist_ok=True)
    archive = SOURCE / f"{target}_corpus.tar.xz"
    (folder / "corpus").mkdir(exist_ok=True)
    if archive.exists():
        with tarfile.open(archive) as file:
            file.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
            file.extractall(folder)
    return [folder / "new", folder / "corpus"]


def cpu_seconds() -> float:
    """Return the processor time of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fuzz(target: str, seconds: float) -> bool:
    """Run the fuzzer in slices until it has used that much CPU time; print what was seen; False at a finding."""
    folders = unpack(target)
    executions, coverage, found = 0, "no coverage", ""
    start = cpu_seconds()
    while (left := seconds - (cpu_seconds() - start)) > 1 and not found:
        limits = [f"-max_total_time={max(2, int(min(SLICE_S, left)))}", f"-max_len={LARGEST[target]}"]
        # libFuzzer's clock goes on while its process is stopped, as background work may be for minutes.
        bounds = ["-rss_limit_mb=2048", "-timeout=300", f"-artifact_prefix={BUILD / target}/"]
        done = subprocess.run(
            [BUILD / f"{target}_fuzzer", *limits, *bounds, "-print_final_stats=1", *folders],
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},  # leaks need ptrace, often forbidden
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        (BUILD / target / "last.log").write_text(done.stderr)
        units = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
        executions += int(units[1]) if units else 0
        if seen := re.findall(r"cov: (\d+) ft: (\d+)", done.stderr):
            coverage = f"{seen[-1][0]} edges, {seen[-1][1]} features"
        if done.returncode != 0:
            written = re.search(r"Test unit written to (\S+)", done.stderr)
            found = written[1] if written else f"status {done.returncode}"
        new = sum(1 for _ in folders[0].iterdir())
        used = cpu_seconds() - start
        print(
            f"{target}: {executions} executions, {coverage}, {new} new inputs, {used:.0f} CPU s", flush=True
        )
    if found:
        print(f"{target}: a finding: {found}; the fuzzer's words are in {BUILD / target / 'last.log'}")
    return not found


def keep(target: str) -> None:
    """Write the smallest corpus that covers as much as all inputs to the archive."""
    folders = unpack(target)
    smaller = BUILD / target / "smaller" / "corpus"
    shutil.rmtree(smaller, ignore_errors=True)
    smaller.mkdir(parents=True)
    subprocess.run(
        [BUILD / f"{target}_fuzzer", "-merge=1", f"-max_len={LARGEST[target]}", smaller, *folders],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        check=True,
        stderr=subprocess.DEVNULL,
    )

    def bare(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    archive = SOURCE / f"{target}_corpus.tar.xz"
    with tarfile.open(archive, "w:xz") as file:
        for path in sorted(smaller.iterdir()):
            file.add(path, f"corpus/{path.name}", filter=bare)
    print(f"{archive}: {sum(1 for _ in smaller.iterdir())} inputs, {archive.stat().st_size} bytes")


def main() -> None:
    """Parse the command line, build, fuzz, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=sorted(LARGEST))
    parser.add_argument("--cpu-minutes", type=float, default=30.0)
    parser.add_argument("--keep", action="store_true", help="write the corpus to the archive afterwards")
    given = parser.parse_args()
    compiler = os.environ.get("CXX") or shutil.which("clang++") or shutil.which("clang++-14")
    if compiler is None:
        sys.exit("clang++ is needed: apt-get install clang libclang-rt-14-dev")
    build(given.target, compiler)
    good = fuzz(given.target, given.cpu_minutes * 60)
    if given.keep:
        keep(given.target)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
