"""Evaluating 20,000 images of 14 classes: ours, beside scikit-learn's roc_auc_score with a plain bootstrap.

python benchmarks/evaluation.py [--replicates 50]     writes benchmarks/results/evaluation_cpu.csv

Ours gives, for every class, within three sources and over all: AUROC with DeLong's interval by patient, 1000 bootstrap
replicates by patient, average precision, three operating points, accuracy and calibration. The other gives the AUROC
of every class and its bootstrap by patient, nothing else; it is run with fewer replicates, and the time for 1000 is
that of one replicate times 1000, in a column of its own.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from harness import machine
from sklearn.metrics import roc_auc_score

from labelassemble.evaluation import Predictions, evaluate

IMAGES, CLASSES, PATIENTS, REPLICATES = 20_000, 14, 6_000, 1000


def main() -> None:
    """Measure both on the same predictions, check that the AUROCs agree, print and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--replicates", type=int, default=50, help="bootstrap replicates of scikit-learn's side"
    )
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "evaluation_cpu.csv"
    )
    arguments = parser.parse_args()
    first_line = machine()
    predictions = make(np.random.default_rng(0))
    evaluate(predictions, bootstrap=64)  # warms up
    ours = []
    for _ in range(5):
        start = time.perf_counter()
        evaluation = evaluate(predictions, bootstrap=REPLICATES)
        ours.append(time.perf_counter() - start)
    start = time.perf_counter()
    aurocs = plain(predictions, 0)[0]
    once = time.perf_counter() - start
    difference = max(abs(a - (r.auroc or 0)) for a, r in zip(aurocs, evaluation.classes, strict=True))
    assert difference < 1e-12, difference
    start = time.perf_counter()
    plain(predictions, arguments.replicates)
    theirs = time.perf_counter() - start
    whole = once + (theirs - once) / arguments.replicates * REPLICATES
    median = float(np.median(ours))
    rows = [
        ("labelassemble evaluate", REPLICATES, f"{median:.3f}", f"{median:.3f}", ""),
        (
            "scikit-learn roc_auc_score, plain bootstrap",
            arguments.replicates,
            f"{theirs:.3f}",
            f"{whole:.1f}",
            f"{whole / median:.0f}",
        ),
        ("scikit-learn roc_auc_score, no interval", 0, f"{once:.3f}", "", ""),
    ]
    header = ("implementation", "replicates", "seconds", "seconds_for_1000_replicates", "times_ours")
    with arguments.output.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {first_line}\n")
        file.write(
            f"# {IMAGES} images of {PATIENTS} patients, {CLASSES} classes, 3 sources, 40% of labels unknown; "
            f"ours: median of {len(ours)} ({min(ours):.3f} to {max(ours):.3f} s); "
            f"largest difference of an AUROC {difference:.0e}\n"
        )
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    print(arguments.output.read_text(), end="")


def make(rng: np.random.Generator) -> Predictions:
    """Return predictions of a model of middling skill; a patient has three or four images."""
    labels = rng.choice(np.array([1, 0, -1], np.int8), (IMAGES, CLASSES), p=(0.1, 0.5, 0.4))
    names = np.array([f"{index}.png" for index in range(IMAGES)])
    return Predictions(
        classes=tuple(f"class {index}" for index in range(CLASSES)),
        labels=labels,
        probabilities=1 / (1 + np.exp(2 - rng.normal(size=labels.shape) - (labels == 1))),
        origins=np.zeros(labels.shape, np.uint8),
        names=names,
        sources=rng.choice(["a", "b", "c"], IMAGES),
        groups=np.array([f"p{index}" for index in rng.integers(0, PATIENTS, IMAGES)]),
        splits=np.full(IMAGES, "test"),
        paths=names,
    )


def plain(predictions: Predictions, replicates: int) -> list[list[float]]:
    """Return the AUROC of every class, then of every replicate, as one writes it with scikit-learn."""
    rng = np.random.default_rng(0)
    targets, scores = predictions.given_targets(), predictions.probabilities
    _, patient = np.unique(predictions.groups, return_inverse=True)
    order = np.argsort(patient, kind="stable")
    images_of = np.split(order, np.flatnonzero(np.diff(patient[order])) + 1)
    found = []
    for replicate in range(replicates + 1):
        rows = np.arange(len(targets))
        if replicate:
            drawn = rng.integers(0, len(images_of), len(images_of))
            rows = np.concatenate([images_of[index] for index in drawn])
        known = ~np.isnan(targets[rows])
        found.append(
            [
                float(roc_auc_score(targets[rows, c][known[:, c]], scores[rows, c][known[:, c]]))
                for c in range(targets.shape[1])
            ]
        )
    return found


if __name__ == "__main__":
    main()
