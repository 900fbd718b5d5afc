"""Configures the C++ project of the tests and builds it, or one target of it.

    python tests/cpp/build.py FOLDER TARGET [-DNAME=VALUE ...]     TARGET may be `all`

One process at a time: another waits, and finds the work done. What is built stays in the folder and is compiled anew
where a source, a header or the environment has changed.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent


def find(program: str) -> str:
    """Return the path of a program of this environment, or else of the system."""
    found = shutil.which(
        program, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if found is None:
        sys.exit(f"{program} is needed: pip install {program}")
    return found


def build(folder: Path, target: str, definitions: list[str]) -> int:
    """Return the exit status of what failed first, or 0; a target that lacks a package is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = folder / "definitions.txt"
        asked = "\n".join(definitions)
        # Where a package was missing it may have come since.
        if not known.exists() or known.read_text() != asked or (folder / "lacking").exists():
            known.unlink(missing_ok=True)
            options = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={find('ninja')}", "-DCMAKE_BUILD_TYPE=Debug"]
            configured = subprocess.run(
                [find("cmake"), "--fresh", "-S", SOURCE, "-B", folder, *options, *definitions], check=False
            )
            if configured.returncode != 0:
                return configured.returncode
            known.write_text(asked)
        if (folder / "lacking" / target).exists():
            return 0
        # Half of the cores: tests run beside it. What fails does not keep the other targets.
        parallel = str(max(1, (os.cpu_count() or 1) // 2))
        command = [find("cmake"), "--build", folder, "--target", target, "--parallel", parallel]
        return subprocess.run([*command, "--", "-k", "0"], check=False).returncode


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
