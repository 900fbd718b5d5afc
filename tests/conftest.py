"""What every test shares."""

import importlib.util
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from PIL import Image

from labelassemble import _extension
from labelassemble.export import cmake_path

ROOT = Path(__file__).parents[1]
CPP_BUILD = ROOT / "build" / "tests"

# A busy machine is no reason to fail: no test has a time limit, and the same examples come each time.
settings.register_profile("labelassemble", deadline=None, derandomize=True)
settings.load_profile("labelassemble")

# Files of which each takes half a minute or more: they come first, so that two processes of `make test` end together.
# What needs a C++ program comes last of them, when it is compiled.
LONG_FILES = (
    "experiments/test_processes.py",
    "training/test_distributed.py",
    "experiments/test_sources.py",
    "experiments/test_demo.py",
    "training/test_killed.py",
    "training/test_run.py",
    "experiments/test_runner.py",
    "export/test_traced_formats.py",
    "training/test_run_from_another.py",
    "views/test_thousands.py",
    "views/test_memory.py",
    "examples/test_examples.py",
    "export/test_cpp_library.py",
    "serve/test_fuzz_corpus.py",
    "cuda_on_cpu/test_cuda_on_cpu.py",
)


@pytest.fixture(autouse=True)
def _restore_random_state() -> Iterator[None]:
    """Give every test the same random state, and the next one as if this one had not run."""
    states = random.getstate(), torch.get_rng_state()
    random.seed(0)
    torch.manual_seed(0)
    yield
    random.setstate(states[0])
    torch.set_rng_state(states[1])


def pytest_report_header() -> str:
    """Say which instructions the kernels use: machines differ."""
    return f"labelassemble kernels: {_extension.cpu_capability()}; torch {torch.__version__}"


def _fail_if_absent(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a skip for want of a package or program a failure, where LABELASSEMBLE_FAIL_WITHOUT_PACKAGES=1."""
    if not report.skipped or os.environ.get("LABELASSEMBLE_FAIL_WITHOUT_PACKAGES") != "1":
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if re.search(
        r"could not import|is not installed|built without gRPC|labelassemble doctor says|: needs ", reason
    ):
        report.outcome = "failed"
        report.longrepr = f"{reason}, and LABELASSEMBLE_FAIL_WITHOUT_PACKAGES=1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hold back a skip for want of a package."""
    report = yield
    _fail_if_absent(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Hold back the skip of a whole file for want of a package."""
    report = yield
    _fail_if_absent(report)
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first; skip tests that need CUDA or DALI where there is none, unless a failure is asked for."""
    place = {str(ROOT / "tests" / name): index for index, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(str(item.path), len(place)))
    for marker, there, reason in (
        ("cuda", torch.cuda.is_available() or "LABELASSEMBLE_CUDA_ON_CPU" in os.environ, "no CUDA device"),
        ("dali", _is_installed("nvidia", "nvidia.dali"), "no NVIDIA DALI"),
        ("libraries", _is_installed("timm", "torchvision", "torchxrayvision"), "run by make test-newest"),
    ):
        if there or os.environ.get(f"LABELASSEMBLE_FAIL_WITHOUT_{marker.upper()}") == "1":
            continue
        for item in items:
            if marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to compile the C++ programs in the background, where several processes run the tests."""
    if os.environ.get("PYTEST_XDIST_WORKER") != "gw0" or session.config.option.collectonly:
        return
    if any("cpp_program" in getattr(item, "fixturenames", ()) for item in session.items):
        quiet = subprocess.DEVNULL
        build = subprocess.Popen(_build_command("all"), stdout=quiet, stderr=quiet, start_new_session=True)

        def stop() -> None:
            if build.poll() is None:
                os.killpg(build.pid, signal.SIGTERM)
            build.wait()

        session.config.add_cleanup(stop)


def _build_command(target: str) -> list[str]:
    definitions = [f"-DCMAKE_PREFIX_PATH={cmake_path()}"]
    if not (cmake_path().parents[2] / "torch").exists():  # an environment laid over another
        definitions.append(f"-DLABELASSEMBLE_TORCH={Path(torch.__file__).parent}")
    return [sys.executable, str(ROOT / "tests" / "cpp" / "build.py"), str(CPP_BUILD), target, *definitions]


def _absent(what: str) -> NoReturn:
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="session")
def absent() -> Callable[[str], NoReturn]:
    """What a test calls that lacks a package, with its name and how to get it."""
    return _absent


@pytest.fixture(scope="session")
def cpp_program() -> Callable[[str], Path]:
    """Return a program of tests/cpp by its target; built once for all tests and processes, and kept in build/tests."""

    def program(target: str) -> Path:
        done = subprocess.run(_build_command(target), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        lacking = CPP_BUILD / "lacking" / target
        if lacking.exists():
            package = lacking.read_text()
            _absent(f"{package}: apt-get install {package}")
        return CPP_BUILD / "bin" / target

    return program


def _is_installed(*modules: str) -> bool:
    """Return whether a module is installed, given with the packages that it is in, outermost first."""
    return all(importlib.util.find_spec(module) is not None for module in modules)


@pytest.fixture
def no_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave reports and figures of runs empty, which take half of a small run's time, but for the marker `pages`."""
    if "pages" not in request.keywords:
        monkeypatch.setattr("labelassemble.report.page.report_page", lambda *_: "")
        monkeypatch.setattr("labelassemble.experiments.tables.draw", lambda *_: None)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: small networks take less time so, and two processes share the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; gives exit status, stdout and stderr."""
    from labelassemble.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["labelassemble", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def forking() -> ForkServerContext:
    """Start processes that have imported already what a training imports: forks of one that does nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["labelassemble.cli", "labelassemble.experiments.runner", "torch._dynamo", "pytest", "hypothesis"]
    )
    return context


def _command_line(folder: Path, arguments: list[str], stderr: Path, read: bool) -> None:
    """Be the command line: in the folder, with one thread, errors in a file and an output that is perhaps not read."""
    from labelassemble.cli import main

    torch.set_num_threads(1)
    os.chdir(folder)
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(os.open(os.devnull, os.O_WRONLY) if read else writer, 1)
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = ["labelassemble", *arguments]
    main()


@pytest.fixture
def begin_cli(forking: ForkServerContext) -> Iterator[Callable[..., ForkServerProcess]]:
    """Begin the command line in a process of its own: ``begin_cli(folder, *arguments)``.

    What it writes to stderr is in `stderr.txt` of the folder. With ``read=False`` the reader of its output has gone.
    """
    begun: list[ForkServerProcess] = []

    def begin(folder: Path, *arguments: object, read: bool = True) -> ForkServerProcess:
        words = [str(argument) for argument in arguments]
        process = forking.Process(target=_command_line, args=(folder, words, folder / "stderr.txt", read))
        process.start()
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.join()


@pytest.fixture
def init_and_assemble(
    cli: Callable[..., tuple[int, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """Run `labelassemble init` and `assemble` of what it writes; gives the keys of the source."""

    def run(data: Path, *options: object) -> dict[str, Any]:
        config = tmp_path_factory.mktemp("init") / "first.yaml"
        status, out, err = cli("init", data, "-o", config, *options)
        assert status == 0, out + err
        status, out, err = cli("assemble", config)
        assert status == 0, out + err
        source: dict[str, Any] = yaml.safe_load(config.read_text())["sources"][0]
        return source

    return run


@pytest.fixture
def small_sources(tmp_path: Path) -> Path:
    """A folder with 48 images of two shapes from two sources that label one each, and run.yaml over them."""
    return _small_sources(tmp_path)


@pytest.fixture(scope="session")
def write_small_sources() -> Callable[[Path], Path]:
    """What makes the folder `small_sources` elsewhere, for fixtures of a wider scope."""
    return _small_sources


def _small_sources(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for source, finding in (("north", "square"), ("south", "stripe")):
        lines = [f"path,patient,split,{finding}"]
        for index in range(24):
            pixels = rng.integers(0, 60, (16, 16), dtype=np.uint8)
            present = index % 2
            if present and finding == "square":
                pixels[4:12, 4:12] += 150
            elif present:
                pixels[:, 7:9] += 150
            name = f"images/{source}-{index}.png"
            Image.fromarray(pixels).save(folder / name)
            split = ("train", "train", "val", "test")[index // 2 % 4]
            lines.append(f"{name},{source}-{index},{split},{present}")
        (folder / f"{source}.csv").write_text("\n".join(lines) + "\n")
    (folder / "run.yaml").write_text(
        """\
sources:
  - {name: north, reader: csv, path: north.csv}
  - {name: south, reader: csv, path: south.csv}
interest: [square]
views: {size: 16, weak: {flip: 0.0}, strong: {flip: 0.0}}
model: {backbone: densenet_small}
loss: {warmup_epochs: 1}
train: {epochs: 2, batch_size: 8, lr: 1.0e-3, early_stop: null}
"""
    )
    return folder


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on images without a training, called chest.

    Of its four classes the first has a threshold below all answers, the second one above, the third one that calls
    nothing positive, and the last none.
    """
    import json

    from labelassemble.evaluation.calibration import Calibration, ClassCalibration, write_calibration
    from labelassemble.models import AssembleNet, ModelOptions
    from labelassemble.training.checkpoint import checkpoint_sum, save_checkpoint
    from labelassemble.views.options import ViewOptions

    names = ("Edema", "Enlarged Cardiomediastinum", "Lung Lesion", "Übergewicht / 肥満")
    folder = tmp_path_factory.mktemp("runs") / "chest"
    (folder / "checkpoints").mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = AssembleNet("densenet_small", classes=names, in_channels=1)
    description = {
        "views": ViewOptions(size=16, channels=1).model_dump_json(),
        "model": ModelOptions(backbone="densenet_small").model_dump_json(),
        "classes": json.dumps(names),
        "interest": json.dumps(names[:1]),
    }
    best = folder / "checkpoints" / "best.pt"
    save_checkpoint(best, {"model": net.state_dict(), "description": description, "epoch": 1})
    (folder / "config.yaml").write_text("preset: recommended\n")
    thresholds: tuple[float | None, ...] = (1e-9, 0.999999, None)
    classes = {
        name: ClassCalibration(
            temperature=1.5, offset=0.25, method="platt", thresholds={"specificity=0.95": value}
        )
        for name, value in zip(names, thresholds, strict=False)
    }
    classes[names[3]] = ClassCalibration(reason="too few")
    calibration = Calibration(checkpoint=checkpoint_sum(best), images=9, classes=classes)
    write_calibration(calibration, folder / "calibration.json")
    return folder
