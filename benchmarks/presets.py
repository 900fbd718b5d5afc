"""Which defaults find a class best that few images label: the two presets, and each part of the recommended one.

    python benchmarks/presets.py --data DIR --workers 2

Every data set is split anew for each seed. A clinic labels only the class of interest, on few images; two archives
label the other classes and never that one; the data set's own test images are held out. Images of one patient or
lesion are all in the same part. Every training is `train_run` of a configuration, with the same number of steps for
all arms; the checkpoint is chosen on the clinic's validation images. Nothing was chosen by the seeds 0 to 9.

DIR has mnist/, cifar10/, skin_ham10000/, cxr_nih/ and cxr_nih64/; the digits are scikit-learn's. The same command
goes on after an interruption: trainings whose row is in the CSV are skipped.
"""

import argparse
import csv
import hashlib
import json
import logging
import math
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from harness import machine
from presets_data import DATASETS, Images, write_sources
from rich.console import Console
from scipy.stats import ttest_1samp

from labelassemble._yaml import apply_override
from labelassemble.config import Config, make_config
from labelassemble.run import train_run

TRAIN = {"epochs": 12, "steps_per_epoch": 30, "batch_size": 32, "lr": 3e-3, "early_stop": None}


@dataclass(frozen=True)
class Arm:
    """One way of training."""

    preset: str
    changes: tuple[str, ...] = ()  # overrides of the configuration, as on the command line
    archives: bool = True
    exclusive: bool = False  # the sources say `exclusive: all`, where that is true of the data set
    of_exclusion: bool = False  # about exclusion: left out where no class excludes another
    of_no_exclusion: bool = False  # about its absence: left out where classes exclude each other


@dataclass(frozen=True)
class Row:
    """One training; AUCs are those of the held-out images, with DeLong's 95% interval."""

    dataset: str
    arm: str
    seed: int
    auc: float  # of the class of interest
    low: float
    high: float
    others: float  # mean AUC of the other classes; NaN without archives
    validation: float  # AUC of interest on the clinic's validation images at the epoch that was kept
    best_epoch: int
    steps: int
    seconds: float  # of training
    cpu: float  # processor seconds of all, with evaluation and report
    positives: int  # held-out
    negatives: int
    settings: str  # hash of what the configuration says beside the defaults


@dataclass(frozen=True)
class Job:
    """A training to be done."""

    dataset: str
    arm: str
    seed: int
    interest: str
    config: Config
    work: Path
    settings: str  # hash of the configuration


# without it BatchNorm would see the strong view even where no label is unknown
_KNOWN_ALONE = ("loss.pseudo_weight=0", "loss.consistency_weight=0")


def _without(*changes: str, exclusive: bool = True, **about: bool) -> Arm:
    return Arm("recommended", changes, exclusive=exclusive, **about)


ARMS = {
    "alone": Arm("paper", _KNOWN_ALONE, archives=False),
    "alone_strong": Arm("paper", (*_KNOWN_ALONE, "loss.strong_known=true"), archives=False),
    "paper": Arm("paper"),
    "recommended": _without(),
    "no_rule": _without(exclusive=False, of_exclusion=True),
    "no_rule_balanced": _without("train.sampling=balanced", exclusive=False, of_exclusion=True),
    "no_exclusive_loss": _without("loss.exclusive=false", of_exclusion=True),
    "shuffle": _without("train.sampling=shuffle", of_exclusion=True),
    "balanced": _without("train.sampling=balanced", of_no_exclusion=True),
    "clinic_half": _without("train.sampling={clinic: 0.5}"),
    "no_strong_known": _without("loss.strong_known=false"),
    "no_query_lr": _without("train.query_lr=1"),
    "known_mean_class": _without("loss.known_mean=class"),
    "masked_bce": _without(*_KNOWN_ALONE),
    "paper+exclusive": Arm("paper", ("loss.exclusive=true",), exclusive=True, of_exclusion=True),
    "paper+balanced": Arm("paper", ("train.sampling=balanced",)),
    "paper+strong_known": Arm("paper", ("loss.strong_known=true",)),
    "paper+query_lr": Arm("paper", ("train.query_lr=0.1",)),
}
QUESTIONS = (
    ("Do the presets beat the clinic alone?", ("alone_strong", "paper", "recommended"), ("alone", "paper")),
    (
        "What does each part of `recommended` add? One changed at a time",
        tuple(name for name, arm in ARMS.items() if arm.preset == "recommended" and name != "recommended"),
        ("recommended", "alone"),
    ),
    (
        "What does each part add to `paper`? One added at a time",
        tuple(name for name in ARMS if name.startswith("paper+")),
        ("paper", "alone"),
    ),
)


def make_job(
    name: str, arm_name: str, seed: int, images: Images, folder: Path, work: Path, backbone: str
) -> Job:
    """Return the training of an arm on a data set, split as in the folder."""
    dataset, arm = DATASETS[name], ARMS[arm_name]
    others = [c for c in images.classes if c != dataset.interest]
    root, sources = str(images.root.resolve()), []
    for source in ("clinic", "archive-a", "archive-b", "held-out"):
        values = {"name": source, "reader": "csv", "path": f"{source}.csv", "root": root, "patients": name}
        if arm.exclusive and dataset.exclusive and source != "held-out":
            values["exclusive"] = "all"
        if arm.archives or not source.startswith("archive"):
            sources.append(values)
    flip = {view: {"flip": dataset.flip} for view in ("weak", "strong")}
    values = {
        "preset": arm.preset,
        "sources": sources,
        "classes": [dataset.interest, *(others if arm.archives else [])],
        "interest": [dataset.interest],
        "duplicates": "path",
        "views": {"size": dataset.size, "channels": dataset.channels, "threads": 1} | flip,
        "model": {"backbone": backbone},
        "train": {**TRAIN, "seed": seed, "device": "cpu"},
    }
    for change in arm.changes:
        apply_override(values, change)
    config = make_config(values, base=folder.resolve())
    # Paths differ between machines, and options that came since are at their defaults; what else a configuration holds
    # makes a training another one.
    settings = json.dumps(config.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    text = settings.replace(str(folder.resolve()), "").replace(root, "")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Job(name, arm_name, seed, dataset.interest, config, work, digest)


def begin_worker(parent: int) -> None:
    """Take one thread, and end when the parent is no more: the pool's queue would be waited for for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    torch.set_num_threads(1)
    logging.getLogger("labelassemble").setLevel(logging.ERROR)  # a collapse shows in the AUC
    threading.Thread(target=watch, daemon=True).start()


def train(job: Job) -> Row:
    """Train and evaluate; the run's folder is removed."""
    began = time.process_time()
    with tempfile.TemporaryDirectory(dir=job.work, prefix="run-") as folder:
        result = train_run(job.config, Path(folder) / "run", resume=False, console=Console(quiet=True))
        with (Path(folder) / "run" / "metrics.csv").open() as file:
            epochs = list(csv.DictReader(file))
    outcome, evaluation = result.outcome, result.evaluation
    assert evaluation is not None
    found = evaluation.of(job.interest)
    others = [c.auroc for c in evaluation.classes if c.name != job.interest and c.auroc is not None]
    return Row(
        job.dataset,
        job.arm,
        job.seed,
        found.auroc,
        *found.interval,
        others=statistics.mean(others) if others else math.nan,
        validation=float(epochs[outcome.best_epoch - 1]["val_auc_interest"]),
        best_epoch=outcome.best_epoch,
        steps=outcome.steps,
        seconds=outcome.seconds,
        cpu=time.process_time() - began,
        positives=found.positives,
        negatives=found.negatives,
        settings=job.settings,
    )


def read_rows(path: Path) -> list[Row]:
    """Return the rows of trainings that are done."""
    if not path.exists():
        return []
    table = pd.read_csv(path, comment="#", dtype={"settings": str})
    return [Row(*values) for values in table.itertuples(index=False)]


def write_rows(rows: Sequence[Row], path: Path, first_line: str) -> None:
    """Write the rows, in place of the file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(f"# {first_line}\n" + pd.DataFrame(rows).to_csv(index=False, float_format="%.5f"))
    part.replace(path)


Scores = dict[tuple[str, str], dict[int, float]]
"""AUC by data set and arm, then by seed."""


def _gains(scores: Scores, names: Sequence[str], arm: str, other: str) -> list[float]:
    """Return the arm's gain over the other, per seed; of several data sets that have both, their mean."""
    names = [name for name in names if (name, arm) in scores and (name, other) in scores]
    pairs = [(scores[name, arm], scores[name, other]) for name in names]
    if not pairs:
        return []
    seeds = sorted(set.intersection(*(a.keys() & b.keys() for a, b in pairs)))
    return [statistics.mean(a[seed] - b[seed] for a, b in pairs) for seed in seeds]


def _gain_cells(gains: Sequence[float]) -> list[str]:
    """Return mean and paired 95% interval, p of the paired t-test, and the share of seeds won."""
    if not gains:
        return ["", "", ""]
    won = f"{sum(gain > 0 for gain in gains)}/{len(gains)}"
    mean = f"{statistics.mean(gains):+.3f}"
    if len(set(gains)) < 2:
        return [mean, "", won]
    test = ttest_1samp(gains, 0.0)
    low, high = test.confidence_interval(0.95)
    return [f"{mean} ({low:+.3f} to {high:+.3f})", f"{test.pvalue:.2g}", won]


def report(
    rows: Sequence[Row],
    first_line: str,
    questions: Sequence[tuple[str, Sequence[str], Sequence[str]]] = QUESTIONS,
) -> str:
    """Return the answers in Markdown, a table per question: its title, arms, and what they are compared to."""
    scores: Scores = {}
    for row in rows:
        scores.setdefault((row.dataset, row.arm), {})[row.seed] = row.auc
    names = list(dict.fromkeys(row.dataset for row in rows))
    seeds = sorted({row.seed for row in rows})
    few = " With so few seeds nothing here is settled: the same command goes on." if len(seeds) < 10 else ""
    lines = [
        first_line,
        "",
        f"{len(rows)} trainings, seeds {', '.join(map(str, seeds))}.{few}",
        "",
        "AUC of the class of interest on held-out images: mean ± standard deviation over seeds. Gains are paired",
        "by seed, with the 95% interval and p of the paired t-test, not corrected for many tests; won: seeds with a",
        "gain. The rows `all` take, per seed, the mean gain over the data sets that have the arm.",
    ]
    for title, arms, references in questions:
        header = ["data set", "arm", "AUC"]
        for reference in references:
            header += [f"gain over {reference}", "p", "won"]
        lines += ["", f"## {title}", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        for name in (*names, "all") if len(names) > 1 else names:
            for arm in dict.fromkeys((*references, *arms)):
                aucs = list(scores.get((name, arm), {}).values())
                if name != "all" and not aucs:
                    continue
                spread = f" ± {statistics.stdev(aucs):.3f}" if len(aucs) > 1 else ""
                cells = [name, arm, f"{statistics.mean(aucs):.3f}{spread}" if aucs else ""]
                for reference in references:
                    among = names if name == "all" else [name]
                    cells += _gain_cells([] if arm == reference else _gains(scores, among, arm, reference))
                if name != "all" or any(cells[3:]):
                    lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def make_jobs(given: argparse.Namespace) -> list[Job]:
    """Write the sources of every data set and seed, and return all trainings, seed by seed."""
    jobs = []
    everything = {name: DATASETS[name].read(given.data, given.work) for name in given.datasets}
    for seed in given.seeds:
        for name, images in everything.items():
            folder = given.work / "tables" / name / str(seed)
            write_sources(images, DATASETS[name], seed, folder)
            jobs += [
                make_job(name, arm, seed, images, folder, given.work, given.backbone)
                for arm in given.arms
                if not (ARMS[arm].of_no_exclusion if DATASETS[name].exclusive else ARMS[arm].of_exclusion)
            ]
    return jobs


def main() -> None:
    """Train what is not yet in the CSV, then write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("runs/presets"), help="images, tables, runs")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "presets_cpu")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--backbone", default="cnn_small")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # in the workers, which begin anew
    path = given.output.with_suffix(".csv")
    rows, first_line = read_rows(path), f"{machine()}; one thread a training"
    done = {(row.dataset, row.arm, row.seed): row.settings for row in rows}
    jobs = []
    for job in make_jobs(given):
        settings = done.get((job.dataset, job.arm, job.seed), job.settings)
        if settings != job.settings:
            parser.error(
                f"{path} has {job.dataset}, {job.arm}, seed {job.seed} with other settings: move it away"
            )
        if (job.dataset, job.arm, job.seed) not in done:
            jobs.append(job)
    print(f"{len(jobs)} trainings, {len(rows)} rows are there", flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.workers, context, begin_worker, (os.getpid(),)) as pool:
        try:
            for number, future in enumerate(as_completed([pool.submit(train, job) for job in jobs]), start=1):
                row = future.result()
                rows.append(row)
                write_rows(rows, path, first_line)
                print(
                    f"{number}/{len(jobs)} {row.dataset:<8} {row.arm:<20} seed {row.seed:<4} AUC {row.auc:.3f} "
                    f"validation {row.validation:.3f} others {row.others:.3f} "
                    f"epoch {row.best_epoch:>2} {row.seconds:5.1f} s, processor {row.cpu:5.1f} s",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    order = {name: place for place, name in enumerate([*DATASETS, *ARMS])}
    rows.sort(key=lambda row: (order[row.dataset], order[row.arm], row.seed))
    write_rows(rows, path, first_line)
    path.with_suffix(".md").write_text(report(rows, first_line))


if __name__ == "__main__":
    main()
