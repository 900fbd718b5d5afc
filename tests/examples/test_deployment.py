"""The files of examples/deployment: what an image and a pod need, by what was built here."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from labelassemble.export import find_program
from labelassemble.export.native import SERVER, program_environment

DEPLOYMENT = Path(__file__).parents[2] / "examples" / "deployment"
TOOLS = re.compile(r"\b(g\+\+|gcc|make|cmake|python3?|pip)\b")


def _stages() -> list[list[str]]:
    """Return the instructions of each stage of the Dockerfile, one string each, without comments."""
    text = (DEPLOYMENT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    stages: list[list[str]] = []
    for instruction in instructions:
        if instruction.startswith("FROM "):
            stages.append([])
        stages[-1].append(instruction)
    return stages


def _installed(instructions: list[str]) -> set[str]:
    found = re.findall(r"apt-get install -y --no-install-recommends (.*?) &&", " ".join(instructions))
    return {package for words in found for package in words.split()}


def test_the_last_stage_has_no_tools_and_no_root() -> None:
    first, last = _stages()
    assert not TOOLS.search("\n".join(last))
    assert {"g++", "python3-venv", "libboost-dev"} <= _installed(first)
    user = next(line for line in last if line.startswith("USER "))
    assert int(user.split()[1].split(":")[0]) > 0
    assert "STOPSIGNAL SIGTERM" in last
    copied = [line for line in last if line.startswith(("COPY ", "ADD "))]
    assert copied == ["COPY --from=build /out /opt"]


def test_what_the_build_stage_copies_is_there() -> None:
    root = DEPLOYMENT.parents[1]
    sources = [
        name
        for line in _stages()[0]
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    ]
    kept = re.findall(r"^!(.*)$", (DEPLOYMENT / "Dockerfile.dockerignore").read_text(), re.M)
    assert sorted(sources) == sorted(kept)
    for name in sources:
        assert (root / name).exists()


def test_the_last_stage_has_every_library() -> None:
    if shutil.which("dpkg") is None or "bookworm" not in Path("/etc/os-release").read_text():
        pytest.skip("the image is Debian 12, and this is another system")
    program = find_program(SERVER)
    listed = subprocess.run(
        ["ldd", program], env=program_environment(), capture_output=True, text=True, check=True
    ).stdout
    assert "not found" not in listed
    paths = [Path(path) for path in re.findall(r"=> (/\S+)", listed)]
    system = [
        path
        for path in paths
        if "/torch/lib/" not in str(path) and path.name != "liblabelassemble_runtime.so"
    ]
    assert len(system) > 10
    has = {"libc6", "libgcc-s1", "libstdc++6"}  # of every Debian, beside what these packages bring along
    has |= _with_what_they_need(_installed(_stages()[1]))
    # Since /lib is a link to /usr/lib, the path that ldd says need not be the one that dpkg knows.
    names = {path.resolve().name for path in system}
    said = subprocess.run(["dpkg", "-S", *names], capture_output=True, text=True, check=True).stdout
    owners: dict[str, set[str]] = {}
    for package, _, path in (line.partition(": ") for line in said.splitlines()):
        owners.setdefault(Path(path).name, set()).add(package.partition(":")[0])
    for name in names:
        assert owners[name] & has, f"{name} is of {owners[name]}, which the last stage does not install"


def _with_what_they_need(packages: set[str]) -> set[str]:
    """Return the packages, what they depend on, what that depends on, and so on, as far as it is installed here."""
    query = ["dpkg-query", "--show", "--showformat", "${Package}\t${Depends}, ${Pre-Depends}\n"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    needs = {
        name: {re.split(r"[\s:(]", word.strip())[0] for word in re.split(r"[,|]", needed)}
        for name, _, needed in (line.partition("\t") for line in lines)
    }
    assert packages <= set(needs), packages - set(needs)
    done: set[str] = set()
    while packages:
        done |= packages
        packages = {other for name in packages for other in needs.get(name, ())} - done
    return done


def _containers(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the specification of the pod in a file, and the containers of the server in it."""
    first, *_ = yaml.safe_load_all((DEPLOYMENT / name).read_text())
    pod = (
        first["spec"]["predictor"]
        if first["kind"] == "InferenceService"
        else first["spec"]["template"]["spec"]
    )
    return pod, [one for one in pod["containers"] if "labelassemble-serve" in one["image"]]


@pytest.mark.parametrize("name", ["kubernetes.yaml", "inference_service.yaml"])
def test_limits_and_times_go_together(name: str) -> None:
    pod, (container,) = _containers(name)
    options = dict(argument.split("=", 1) for argument in container["args"])
    helped = subprocess.run(
        [find_program(SERVER), "--help"],
        env=program_environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in options:
        assert re.search(rf"^  {option} ", helped, re.M)
    gibibytes = {"1G": 1, "2G": 2}[options["--max-memory"]]
    idle = 0.4  # of a DenseNet121, measured
    limit = float(container["resources"]["limits"]["memory"].removesuffix("Gi"))
    assert limit >= idle + 1.1 * gibibytes
    pause = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])[1]
    assert pod["terminationGracePeriodSeconds"] > int(pause) + int(options["--drain-timeout"]) + 0.5
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        path = container[probe]["httpGet"]["path"]
        assert path == ("/v2/health/live" if probe == "livenessProbe" else "/v2/health/ready")
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
