"""labelassemble-serve with its own allocator, with glibc's, and with jemalloc, mimalloc and tcmalloc preloaded.

    python benchmarks/serve_allocators.py MODELS --model chest --seconds 600

64 closed-loop clients, of which some vanish, as `serve.py --soak`; each allocator gets a server of its own, one after
the other. A preloaded library of one empty function keeps the server's own allocator from being installed. cpu_ms is
the processor time of the server for each answer, which neighbours on the machine disturb less than requests_s.
Debian: apt-get install libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4 g++.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from harness import machine
from serve import expected, finish, infer_request, labelassemble_serve, load, pictures, resident_mib

from labelassemble.export import find_program, load_metadata
from labelassemble.export.native import SERVER

LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
PRELOADED = {
    "glibc": None,
    "jemalloc": LIBRARIES / "libjemalloc.so.2",
    "mimalloc": LIBRARIES / "libmimalloc.so.2.0",
    "tcmalloc": LIBRARIES / "libtcmalloc_minimal.so.4",
}
NAMES = (
    "allocator",
    "requests_s",
    "cpu_ms",
    "p50_ms",
    "p99_ms",
    "rss_first_mib",
    "rss_last_mib",
    "rss_peak_mib",
)


def program(folder: Path, name: str) -> Path | None:
    """Return a program that runs the server with the allocator; None for its own."""
    if name == "labelassemble":
        return None
    # Preloaded first, this empty function takes the place of the one by which the server turns its own allocator on.
    source, without_own = folder / "without_own.cpp", folder / "without_own.so"
    source.write_text("namespace labelassemble { void keep_freed_memory() {} }\n")
    subprocess.run(["c++", "-shared", "-fPIC", source, "-o", without_own], check=True)
    preload = [str(path) for path in (without_own, PRELOADED[name]) if path is not None]
    script = folder / f"serve_{name}"
    script.write_text(f'#!/bin/sh\nLD_PRELOAD={":".join(preload)} exec {find_program(SERVER)} "$@"\n')
    script.chmod(0o755)
    return script


def cpu_seconds(process: int) -> float:
    """Return the processor time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Parse the arguments, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path, metavar="MODELS")
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rounds", type=int, default=1)
    every = ("labelassemble", *PRELOADED)
    parser.add_argument("--allocators", nargs="+", choices=every, default=every)
    arguments = parser.parse_args()
    model = arguments.repository / arguments.model / "1" / "model.pt"
    about = load_metadata(model).input
    images = pictures(None, about.channels, about.size, 64)
    answers = expected(model, images)
    requests = [infer_request(arguments.model, image) for image in images]
    print(f"{machine()}; {arguments.seconds:.0f} s each, 64 clients\n")
    print("| " + " | ".join(NAMES) + " |\n|" + "---|" * len(NAMES))
    for _ in range(arguments.rounds):
        for name in arguments.allocators:
            with tempfile.TemporaryDirectory() as text:
                folder = Path(text)
                with labelassemble_serve(arguments.repository, [], program(folder, name)) as (
                    process,
                    port,
                    _,
                ):
                    before, begin = cpu_seconds(process), time.monotonic()
                    client = load(folder, requests, answers, port, seconds=arguments.seconds, concurrency=64,
                                  binary=True, vanish=0.02)  # fmt: skip
                    memory: list[tuple[float, float]] = []
                    while client.poll() is None:
                        memory.append((time.monotonic() - begin, resident_mib(process)))
                        time.sleep(2)
                    result = finish(client)
                    spent = cpu_seconds(process) - before
            settled = [mib for at, mib in memory if at > min(60.0, arguments.seconds / 3)]
            row = [
                result["requests_s"], 1e3 * spent / result["requests"], result["p50_ms"], result["p99_ms"],
                settled[0], settled[-1], max(settled),
            ]  # fmt: skip
            print(f"| {name} | " + " | ".join(f"{value:.4g}" for value in row) + " |", flush=True)
            if result["wrong"] or result["lost"]:
                raise SystemExit(f"{name}: {result['wrong']} wrong and {result['lost']} lost answers")


if __name__ == "__main__":
    main()
