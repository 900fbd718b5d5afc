"""Does training with the native library give the curves of training in plain torch? One experiment's job, both ways.

python benchmarks/paper/same_curves.py --data DIR [--experiment pseudo-labels --arm pseudo-labels --size 20 --seed 0]

Trains the job four times from the same seed, each in a process of its own on one thread: with the native ops, the same
again, the same with torch's own kernels held to AVX2, and with every op as its plain torch reference. Writes into
benchmarks/paper/same-curves/

- curves.csv: one row per epoch; the losses and the validation AUC of each, and the difference of reference and native,
- summary.md: the largest differences, and the AUCs on the test images,
- curves.svg: both curves, and how far they are apart.

The two ways round differently in float32, and training carries a rounding on: curves equal to the last digit are not
to be expected. How far apart they come is what this shows, beside two yardsticks: what one machine repeats exactly, and
how far another order of torch's own sums (in narrower vectors) takes the same native ops.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "same-curves"
NARROW = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
WAYS: dict[str, tuple[str, dict[str, str]]] = {  # ops, environment
    "native": ("native", {}),
    "native again": ("native", {}),
    "native, torch in AVX2": ("native", NARROW),
    "reference": ("reference", {}),
}
COLUMNS = ("train_loss", "train_bce", "train_pseudo", "train_consistency", "val_loss", "val_auc_interest")


class Way(NamedTuple):
    """A training: its rows of metrics.csv, and what it came to on the test images."""

    rows: list[dict[str, str]]
    auc: float
    ops: str  # whether the native library was there, as the training itself found it
    machine: str


def main() -> None:
    """Train each way, compare, and write."""
    options = _options()
    if options.ops is not None:
        _train(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            name: _in_its_own_process(options, ops, environment, Path(folder) / str(number))
            for number, (name, (ops, environment)) in enumerate(WAYS.items())
        }
    for name, (ops, _) in WAYS.items():
        assert ways[name].ops == ops
    RESULTS.mkdir(parents=True, exist_ok=True)
    _write_curves(ways)
    _write_summary(options, ways)
    _write_figure(options, ways)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder with the experiments' datasets")
    parser.add_argument("--experiment", default="pseudo-labels")
    parser.add_argument("--arm", default="pseudo-labels")
    parser.add_argument("--size", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ops", choices=("native", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_its_own_process(
    options: argparse.Namespace, ops: str, environment: dict[str, str], folder: Path
) -> Way:
    """Return what a training with these ops came to."""
    command = [sys.executable, __file__, "--ops", ops, "--into", str(folder)]
    for name in ("data", "experiment", "arm", "size", "seed"):
        command += [f"--{name}", str(getattr(options, name))]
    subprocess.run(command, check=True, env=os.environ | environment)
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return Way(list(csv.DictReader(file)), **found)


def _train(options: argparse.Namespace) -> None:
    """Train the job in this process, and leave metrics.csv and found.json."""
    if options.ops == "reference":
        sys.modules["labelassemble._C"] = None  # type: ignore[assignment]  # as if it were not installed
    import torch  # after the library was taken away

    from labelassemble import _extension
    from labelassemble.config import make_config
    from labelassemble.experiments.dataset import open_dataset
    from labelassemble.experiments.experiment import load_experiment
    from labelassemble.experiments.jobs import Task, jobs_of
    from labelassemble.processor import processor_name

    torch.set_num_threads(1)
    experiment = load_experiment(options.experiment)
    setting = experiment.settings[0]
    data = experiment.datasets[setting.data]
    values = experiment.config_values(setting) | {"sources": [data.sources[0]]}
    views = make_config(values, base=options.data).views
    dataset = open_dataset(
        setting.data,
        data,
        data=options.data,
        size=views.size,
        channels=views.channels,
        cache=options.into.parent / "cache",
    )
    (job,) = (
        job
        for job in jobs_of(experiment, setting, dataset, [options.seed])
        if (job.arm.name, job.size) == (options.arm, options.size)
    )
    row = Task.of(experiment, job, dataset, options.into).train()
    found = {
        "auc": row["auc"],
        "ops": "native" if _extension.NATIVE else "reference",
        "machine": f"{processor_name()}, kernels {_extension.cpu_capability()}, torch {torch.__version__}",
    }
    (options.into / "found.json").write_text(json.dumps(found), encoding="utf-8")


def _values(way: Way, column: str) -> list[float]:
    return [float(row[column]) for row in way.rows]


def _apart(one: Way, other: Way, column: str) -> list[float]:
    """Return the second minus the first, an epoch each."""
    return [b - a for a, b in zip(_values(one, column), _values(other, column), strict=True)]


def _write_curves(ways: dict[str, Way]) -> None:
    header = ["epoch"]
    for column in COLUMNS:
        header += [f"{column}:{name}" for name in (*ways, "difference")]
    with (RESULTS / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for index, row in enumerate(ways["native"].rows):
            cells = [row["epoch"]]
            for column in COLUMNS:
                cells += [way.rows[index][column] for way in ways.values()]
                cells.append(f"{_apart(ways['native'], ways['reference'], column)[index]:.3g}")
            writer.writerow(cells)


def _write_summary(options: argparse.Namespace, ways: dict[str, Way]) -> None:
    native = ways["native"]
    others = {name: way for name, way in ways.items() if name != "native"}

    def row(column: str) -> str:
        largest = [f"{max(map(abs, _apart(native, way, column))):.2g}" for way in others.values()]
        return " | ".join(["", column, *largest, ""]).strip()

    lines = [
        "# The same curves?",
        "",
        f"`{options.experiment}`, arm `{options.arm}`, n = {options.size}, seed {options.seed}, trained with the "
        "native ops and with their plain torch references on one thread (benchmarks/paper/same_curves.py). "
        f"{native.machine}.",
        "",
        "Largest difference from the native run over the epochs (0: equal in all nine digits of metrics.csv):",
        "",
        " | ".join(["", "curve", *others, ""]).strip(),
        "|" + " --- |" * (len(others) + 1),
        *(row(column) for column in COLUMNS),
        "",
        "AUC of the class of interest on the test images: "
        + ", ".join(f"{name} {way.auc:.6f}" for name, way in ways.items())
        + ".",
        "",
        "Training loss minus that of the native run, by epoch:",
        "",
        *(
            f"- {name}: " + ", ".join(f"{value:+.1e}" for value in _apart(native, way, "train_loss"))
            for name, way in others.items()
        ),
    ]
    (RESULTS / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_figure(options: argparse.Namespace, ways: dict[str, Way]) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from labelassemble.experiments.plots import COLOURS, INK, RC, save, style

    native, reference = ways["native"], ways["reference"]
    epochs = [int(row["epoch"]) for row in native.rows]

    with mpl.rc_context(RC):
        figure = Figure(figsize=(8.4, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        for colour, column, title in (
            (COLOURS[1], "train_loss", "training loss"),
            (COLOURS[3], "val_auc_interest", "validation AUC"),
        ):
            left.plot(epochs, _values(native, column), color=colour, linewidth=3.0, alpha=0.35)
            left.plot(epochs, _values(reference, column), color=colour, linewidth=1.0, linestyle="--")
            left.annotate(
                title,
                (epochs[-1], _values(native, column)[-1]),
                (-4, 6),
                textcoords="offset points",
                ha="right",
                color=colour,
                fontsize=8,
            )
            for way, line, shown in (
                ("reference", "-", ", reference"),
                ("native, torch in AVX2", ":", ", native, torch in AVX2"),
            ):
                apart = [abs(value) for value in _apart(native, ways[way], column)]
                right.plot(
                    epochs,
                    apart,
                    color=colour,
                    linewidth=1.3,
                    linestyle=line,
                    marker="o",
                    markersize=3.5,
                    label=title + shown,
                )
        right.set_yscale("symlog", linthresh=1e-7)
        right.set_ylim(bottom=0.0)
        for axes in (left, right):
            axes.set_xlabel("epoch", color=INK)
        style(left, f"{options.arm}, n = {options.size}: native (wide) and reference (dashed)")
        style(right, "Absolute difference from the native run")
        right.legend(frameon=False, fontsize=8, labelcolor=INK)
        save(figure, RESULTS / "curves.svg")


if __name__ == "__main__":
    main()
