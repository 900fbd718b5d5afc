"""Names each #include in csrc that nothing uses: clang-tidy's misc-include-cleaner, file by file.

    python tests/unused_includes.py BUILD [--all]      BUILD holds compile_commands.json

Sources that reach torch's headers take a quarter of a minute each: they are read with --all alone.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

CSRC = Path(__file__).parents[1] / "csrc"
# pybind11's casters are used by being there.
CONFIG = {
    "misc-include-cleaner.MissingIncludes": "false",
    "misc-include-cleaner.IgnoreHeaders": "pybind11/stl.h",
}
OPTIONS = [
    "--quiet",
    "--checks=-*,misc-include-cleaner",
    "--warnings-as-errors=*",
    f"--config={json.dumps({'CheckOptions': CONFIG})}",
    "--extra-arg=-Wno-unknown-warning-option",
]


def commands_of(build: Path) -> dict[Path, dict[str, str]]:
    """Return how each source of csrc is compiled; of several commands the longest.

    A kernel's longest is that of the processor with the most instructions, and uses the most.
    """
    found: dict[Path, dict[str, str]] = {}
    for command in json.loads((build / "compile_commands.json").read_text()):
        path = Path(command["directory"], command["file"]).resolve()
        if path.is_relative_to(CSRC) and path.suffix == ".cpp":
            found[path] = max(found.get(path, command), command, key=lambda c: len(c["command"]))
    return found


def reaches_torch(source: Path) -> bool:
    """Return whether a source includes one of torch's headers, by itself or through headers of csrc."""
    headers: dict[str, list[Path]] = {}
    for header in CSRC.rglob("*.h"):
        headers.setdefault(header.name, []).append(header)
    seen, waiting = {source}, [source]
    while waiting:
        text = waiting.pop().read_text()
        for name in re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', text, flags=re.MULTILINE):
            if name.startswith(("ATen/", "c10/", "torch/")):
                return True
            new = [path for path in headers.get(Path(name).name, []) if path not in seen]
            seen.update(new)
            waiting += new
    return False


def found_in(commands: str, source: Path) -> str:
    """Return what clang-tidy says of a source, "" where all is well."""
    tidy = Path(sys.executable).with_name("clang-tidy")
    done = subprocess.run(
        [tidy, "-p", commands, *OPTIONS, source], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def main(build: Path, everything: bool) -> int:
    """Print what is found, and return the exit status."""
    commands = commands_of(build)
    sources = sorted(path for path in commands if everything or not reaches_torch(path))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        Path(folder, "compile_commands.json").write_text(json.dumps([commands[path] for path in sources]))
        found = list(filter(None, pool.map(partial(found_in, folder), sources)))
    print(*found, f"{len(sources)} sources read", sep="\n")
    return bool(found) or not sources


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), "--all" in sys.argv))
