"""Put the last stage of examples/deployment/Dockerfile together without a container engine, and run it; as root.

    debootstrap --variant=minbase bookworm /tmp/root MIRROR      # what debian:bookworm-slim stands for
    python tests/examples/try_image.py /tmp/root REPOSITORY MODEL IMAGE

Its RUN steps run in the folder (chroot), the program and its libraries are copied there as COPY does, and the program
serves the model repository as USER, in a root that cannot be written. It must answer for the image, and end on SIGTERM.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from test_deployment import _stages

from labelassemble.export import find_program
from labelassemble.export.native import SERVER, program_environment

PORT = 18123
TOOLS = ("python3", "python", "gcc", "g++", "cc", "c++", "make", "pip")


def copy_program(root: Path) -> None:
    """Copy what the last step of the first stage gathers in /out."""
    program = find_program(SERVER).resolve()
    (root / "opt/labelassemble/bin").mkdir(parents=True, exist_ok=True)
    (root / "opt/torch/lib").mkdir(parents=True, exist_ok=True)
    shutil.copy(program, root / "opt/labelassemble/bin")
    shutil.copy(program.parents[1] / "liblabelassemble_runtime.so", root / "opt/labelassemble")
    command = ["ldd", str(program)]
    listed = subprocess.run(
        command, env=program_environment(), capture_output=True, text=True, check=True
    ).stdout
    for line in listed.splitlines():
        words = line.split()
        if len(words) > 2 and "/torch/lib/" in words[2]:
            shutil.copy(words[2], root / "opt/torch/lib" / words[0])


def main() -> None:
    """Run the steps, then the program."""
    root, repository, model, image = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    last = _stages()[-1]
    said = dict(line.split(" ", 1) for line in last if not line.startswith("RUN "))
    for line in last:
        if line.startswith("RUN "):
            subprocess.run(["chroot", root, "/bin/sh", "-ec", line.removeprefix("RUN ")], check=True)
    assert said["COPY"] == "--from=build /out /opt"
    copy_program(root)
    found = [
        name for name in TOOLS if subprocess.run(["chroot", root, "which", name], capture_output=True).stdout
    ]
    assert not found, f"the image has {found}"
    shutil.copytree(repository, root / "models", dirs_exist_ok=True)

    command = [*json.loads(said["ENTRYPOINT"]), *json.loads(said["CMD"]), "--port", str(PORT)]
    mounts = (
        "mount --bind $0 $0 && mount -o remount,ro,bind $0 && mount -t tmpfs tmpfs $0/tmp && "
        "mount -t proc proc $0/proc && exec chroot "  # where the loader looks for the program's own folder
    )
    start = [mounts + f'--userspec={said["USER"]} "$0" "$@"', str(root), *command]
    process = subprocess.Popen(["unshare", "--mount", "sh", "-c", *start], env={"PATH": os.environ["PATH"]})
    url = f"http://127.0.0.1:{PORT}/v2"
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/health/ready") as answer:
                if answer.status == 200:
                    break
        except OSError:
            assert process.poll() is None, "the program has ended"
        time.sleep(0.1)
    headers = {"Inference-Header-Content-Length": "0"}
    request = urllib.request.Request(f"{url}/models/{model}/infer", image.read_bytes(), headers)
    with urllib.request.urlopen(request) as answer:
        print(answer.read().decode())
    print("it runs as", Path(f"/proc/{process.pid}/status").read_text().partition("Uid:")[2].split()[0])
    process.terminate()
    assert process.wait(timeout=60) == 0
    size = sum(path.stat().st_size for path in (root / "opt").rglob("*") if path.is_file())
    print(f"ended well; /opt has {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
