"""Which calibration helps on images that it was not chosen on: temperature, Platt, beta, isotonic, none, or a rule.

A small network learns 1,000 images of a real data set (every label known), 100 or 300 other images stand for
validation and up to 2,000 of the data set's own test split measure the outcome. Each class, validation size and seed is
one problem. A correction is fitted to the validation images of the problem, and its log loss on the test images is
compared with that of no correction. Every problem has at least 10 positives and 10 negatives among the validation
images; with fewer the library fits nothing. The rules keep a correction only where cross-validation by patient is for
it: "shipped" is the library's own.

    python benchmarks/calibration.py --data FOLDER      # about 5 CPU minutes; --work keeps the images

Beta calibration is Kull, Silva Filho and Flach (AISTATS 2017); isotonic is scikit-learn's, kept off 0 and 1 by half an
image.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import machine
from presets_data import DATASETS, Dataset, Images
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit
from sklearn.isotonic import IsotonicRegression
from torch.nn import functional as F

from labelassemble import AssembleNet, MaskedBCEWithLogitsLoss
from labelassemble.data.images import decode_image
from labelassemble.evaluation import choose_calibrator, fit_platt, fit_temperature, reliability_of
from labelassemble.evaluation.calibrators import LEAST

Correction = Callable[[np.ndarray], np.ndarray]
TRAIN, TEST, EPOCHS = 1000, 2000, 15
SIZES = (100, 300)
FIELDS = ("dataset", "class", "seed", "validation", "positives", "method", "log_loss", "ece", "kept")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=Path("runs/calibration"), help="images")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "calibration_cpu")
    parser.add_argument(
        "--datasets", nargs="+", choices=DATASETS, default=["mnist", "cifar10", "skin", "chest"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    first = machine()
    rows = []
    for name in given.datasets:
        images = DATASETS[name].read(given.data, given.work)
        for seed in given.seeds:
            rows += measured(name, images, DATASETS[name], seed)
            print(f"{name}, seed {seed}: {len(rows)} rows", flush=True)
    with given.output.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = table(rows)
    given.output.with_suffix(".md").write_text(f"{first}\n\n{text}")
    print(text)


def measured(name: str, images: Images, dataset: Dataset, seed: int) -> list[dict[str, object]]:
    """Return a row for each class, validation size and method."""
    rng = np.random.default_rng(seed)
    _, group = np.unique(images.groups, return_inverse=True)
    draw = rng.permutation(group.max() + 1)[group]
    order = np.argsort(draw, kind="stable")
    learnable, test = order[~images.test[order]], order[images.test[order]][:TEST]
    train, rest = learnable[:TRAIN], learnable[TRAIN:]
    rest = rest[~np.isin(group[rest], group[train])]
    parts = [np.array(part) for part in (train, rest[: max(SIZES)], test)]
    answers = trained(images, dataset, seed, parts[0], np.concatenate(parts[1:]))
    val, held_out = answers[: len(parts[1])], answers[len(parts[1]) :]
    rows = []
    for column, class_name in enumerate(images.classes):
        truth = images.labels[parts[2], column]
        for size in SIZES:
            known, patients = images.labels[parts[1][:size], column], group[parts[1][:size]]
            scores = val[:size, column]
            count = int(known.sum())
            if min(count, len(known) - count) < LEAST or truth.all() or not truth.any():
                continue
            for method, correct in corrections(scores, known, patients).items():
                after = held_out[:, column] if correct is None else correct(held_out[:, column])
                found = reliability_of(after[truth], after[~truth])
                assert found is not None
                rows.append(
                    dict(
                        zip(
                            FIELDS,
                            (
                                name, class_name, seed, len(known), count, method,
                                f"{log_loss(after, truth):.5f}", f"{found.error:.5f}", int(correct is not None),
                            ),
                            strict=True,
                        )
                    )
                )  # fmt: skip
    return rows


def trained(images: Images, dataset: Dataset, seed: int, train: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the probabilities float64 [M, C] of `others` by a network that learnt `train`."""
    torch.manual_seed(seed)
    x, y = pixels(images, dataset, train), torch.from_numpy(images.labels[train].astype(np.float32))
    net = AssembleNet("cnn_small", classes=list(images.classes), in_channels=dataset.channels)
    loss = MaskedBCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            loss(net(x[rows]), y[rows]).backward()
            optimizer.step()
    net.eval()
    with torch.inference_mode():
        parts = [torch.sigmoid(net(part).double()) for part in pixels(images, dataset, others).split(256)]
    return torch.cat(parts).numpy()


def pixels(images: Images, dataset: Dataset, rows: np.ndarray) -> torch.Tensor:
    """Return float32 [N, channels, size, size], about 0 +- 1."""
    found = []
    for row in rows:
        image = torch.from_numpy(decode_image(str(images.root / images.paths[row]))).float() / 255
        image = image.mean(0, keepdim=True) if dataset.channels == 1 else image.expand(3, -1, -1)
        size = (dataset.size, dataset.size)
        found.append(F.interpolate(image[None], size, mode="bilinear", antialias=True)[0])
    return (torch.stack(found) - 0.5) / 0.25


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    z = np.clip(logit(probabilities), -36, 36)
    return float(-np.mean(np.where(truth, log_expit(z), log_expit(-z))))


def corrections(scores: np.ndarray, known: np.ndarray, patients: np.ndarray) -> dict[str, Correction | None]:
    """Return what each method does to probabilities; None leaves them."""
    hits, misses = scores[known], scores[~known]
    temperature, platt = fit_temperature(hits, misses).value, fit_platt(hits, misses)
    found: dict[str, Correction | None] = {
        "none": None,
        "temperature": None if temperature is None else scaled_by(temperature),
        "platt": None if platt is None else scaled_by(*platt),
        "beta": beta(scores, known),
        "isotonic": isotonic(scores, known),
    }
    for method, errors in (("rule: any gain", 0.0), ("rule: shipped", 1.0), ("rule: 2 standard errors", 2.0)):
        chosen = choose_calibrator(hits, misses, patients[known], patients[~known], standard_errors=errors)
        found[method] = None if chosen.method == "none" else scaled_by(chosen.temperature, chosen.offset)
    return found


def scaled_by(temperature: float, offset: float = 0.0) -> Correction:
    return lambda p: expit(logit(p) / temperature + offset)


def beta(scores: np.ndarray, known: np.ndarray) -> Correction:
    """Return sigmoid(a ln p - b ln(1 - p) + c) with a, b >= 0 that fits best."""

    def at(weights: np.ndarray, p: np.ndarray) -> np.ndarray:
        z = logit(np.clip(p, 1e-12, 1 - 1e-12))
        return weights[0] * log_expit(z) - weights[1] * log_expit(-z) + weights[2]

    def loss(weights: np.ndarray) -> float:
        z = at(weights, scores)
        return float(-np.mean(np.where(known, log_expit(z), log_expit(-z))))

    found = minimize(loss, [1.0, 1.0, 0.0], method="L-BFGS-B", bounds=[(0, None), (0, None), (None, None)])
    return lambda p: expit(at(found.x, p))


def isotonic(scores: np.ndarray, known: np.ndarray) -> Correction:
    least = 1 / (2 * len(scores))
    fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(scores, known)
    return lambda p: fitted.predict(p)


def table(rows: list[dict[str, object]]) -> str:
    """Return what each method gains over none, as Markdown."""
    by_problem: dict[tuple[object, ...], dict[str, dict[str, object]]] = {}
    for row in rows:
        problem = tuple(row[key] for key in ("dataset", "class", "seed", "validation"))
        by_problem.setdefault(problem, {})[str(row["method"])] = row
    lines = []
    for size in SIZES:
        problems = [found for key, found in by_problem.items() if key[3] == size]
        if not problems:
            continue
        lines += [
            f"{len(problems)} problems with {size} validation images; change against no correction, on test images:",
            "",
            "| method | mean log loss | change | better / worse | worst change | mean ECE | ECE worse by 0.02 or more "
            "| corrected |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for method in problems[0]:
            change = np.array(
                [number(p[method], "log_loss") - number(p["none"], "log_loss") for p in problems]
            )
            error = np.array([number(p[method], "ece") for p in problems])
            before = np.array([number(p["none"], "ece") for p in problems])
            mean = np.mean([number(p[method], "log_loss") for p in problems])
            kept = sum(int(str(p[method]["kept"])) for p in problems)
            lines.append(
                f"| {method} | {mean:.4f} | {change.mean():+.4f} | {(change < 0).sum()} / {(change > 0).sum()} | "
                f"{change.max():+.4f} | {error.mean():.4f} | {(error > before + 0.02).sum()} | {kept} |"
            )
        lines.append("")
    return "\n".join(lines)


def number(row: dict[str, object], key: str) -> float:
    return float(str(row[key]))


if __name__ == "__main__":
    main()
