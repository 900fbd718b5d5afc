"""Make of a wheel that was built here one that a stranger may install.

    python cmake/finish_wheel.py WHEEL FOLDER

Its machine code is for one torch: the metadata asks for that one, and the version names it with what it was built for
(0.1.0+torch2.13.cpu, 0.1.0+torch2.13.cu130). auditwheel copies the system's libraries into it (libjpeg, libtiff, ...)
but torch's own, and writes the oldest manylinux platform on which it loads into its name. File times are those
of SOURCE_DATE_EPOCH.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

NOT_COPIED = (
    "libtorch*",
    "libc10*",
    "libgomp*",
    "libcuda*",
    "libcudart*",
    "libcublas*",
    "libnv*",
)  # torch brings them


def main() -> None:
    """Finish the wheel that the command line names."""
    wheel, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        packed = name_torch(wheel, Path(scratch))
        excluded = [word for pattern in NOT_COPIED for word in ("--exclude", pattern)]
        run("auditwheel", "repair", *excluded, "--wheel-dir", str(output), str(packed))
    (finished,) = output.glob(packed.name.rsplit("-", 1)[0] + "-manylinux_*.whl")
    print(finished)


def name_torch(wheel: Path, scratch: Path) -> Path:
    """Pack the wheel anew, with the torch that it was built for in its version and its requirements."""
    run("wheel", "unpack", "--dest", str(scratch), str(wheel))
    (folder,) = (path for path in scratch.iterdir() if path.is_dir())
    label, requirement = built_for(folder)
    (information,) = folder.glob("*.dist-info")
    metadata = information / "METADATA"
    version = information.name.removesuffix(".dist-info").split("-")[1]
    text = metadata.read_text(encoding="utf-8")
    text = replaced(text, f"Version: {version}", f"Version: {version}+{label}")
    text = replaced(text, "Requires-Dist: torch>=2.11", f"Requires-Dist: {requirement}")
    metadata.write_text(text, encoding="utf-8")
    information.rename(folder / information.name.replace(version, f"{version}+{label}"))
    packed = scratch / "packed"
    packed.mkdir()
    run("wheel", "pack", "--dest-dir", str(packed), str(folder))
    shutil.rmtree(folder)
    (path,) = packed.iterdir()
    return path


def built_for(folder: Path) -> tuple[str, str]:
    """Return what the version of an unpacked wheel is to say, and which torch it is to ask for."""
    code = (
        "import importlib.util, sys, torch\n"
        "spec = importlib.util.spec_from_file_location('labelassemble._C', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "info = module.build_info()\n"
        "print(info['torch'], torch.version.cuda if info['cuda'] else '')"
    )
    (module,) = (folder / "labelassemble").glob("_C.*.so")
    found = subprocess.run(
        [sys.executable, "-c", code, str(module)], capture_output=True, text=True, check=True
    ).stdout.split()
    release = found[0].split("+")[0]
    variant = f"cu{found[1].replace('.', '')}" if len(found) > 1 else "cpu"
    return f"torch{release.rsplit('.', 1)[0]}.{variant}", f"torch=={release}"


def replaced(text: str, line: str, by: str) -> str:
    """Return the metadata with one line of it replaced."""
    assert text.splitlines().count(line) == 1, f"the metadata should have one line {line!r}"
    return text.replace(f"{line}\n", f"{by}\n")


def run(module: str, *arguments: str) -> None:
    """Run a tool of this environment, with the programs of this environment first."""
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-m", module, *arguments],
        check=True,
        stdout=sys.stderr,
        env={**os.environ, "PATH": path},
    )


if __name__ == "__main__":
    main()
