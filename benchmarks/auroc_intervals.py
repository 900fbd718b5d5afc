"""How often intervals of an AUROC hold the truth with few positives: coverage and width of several methods.

    python benchmarks/auroc_intervals.py > benchmarks/results/auroc_intervals.md

Scores of 200 negatives are normal; those of the positives are normal too, of the same spread, twice or half of it, or a
mixture: found (far above) or not (like a negative). The last is the hardest that an AUROC can be to measure, the third
the easiest. Each method sees the same samples. To hold 95% of the truths is right; more is careful, less promises too
much. The second table is the paired test of two scorers of the same AUROC: how often its p is below 0.05. The third has
intervals that take the images of a patient together, the fourth those of the mean of several classes' AUROCs.
"""

import argparse
from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
from harness import machine
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

from labelassemble.evaluation.auroc_interval import hanley_mcneil
from labelassemble.evaluation.bootstrap import (
    Ranking,
    auroc_interval_of,
    auroc_replicates,
    mean_interval_of,
    percentile_interval,
)
from labelassemble.evaluation.proportion import wilson
from labelassemble.evaluation.statistics import delong, paired_delong

Floats = NDArray[np.float64]
Ends = tuple[float, float]

NEGATIVES = 200
POSITIVES = (3, 5, 10, 20, 30, 50, 100)
AREAS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
CORRELATIONS = (0.0, 0.5, 0.9)
PATIENTS = 60
SPREADS = {"equal spread": 1.0, "half the spread": 0.5, "twice the spread": 2.0}
SHAPES = ("equal spread", "half the spread", "twice the spread", "found or not")
Z = float(ndtri(0.975))


def sample(shape: str, area: float, positives: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return scores of positives and negatives whose true AUROC is `area`."""
    negative = rng.standard_normal(NEGATIVES)
    if shape == "found or not":
        found = rng.random(positives) < 2 * area - 1
        return rng.standard_normal(positives) + 8.0 * found, negative
    spread = SPREADS[shape]
    shift = np.sqrt(1 + spread**2) * ndtri(area)
    return shift + spread * rng.standard_normal(positives), negative


def newcombe(area: float, m: int, n: int) -> Ends:
    """Return Newcombe's method 5 (Statistics in Medicine 2006): score, Hanley and McNeil's variance made symmetric."""
    trials = np.linspace(0, 1, 4001)
    rest = (m + n) / 2 - 1
    variance = (
        trials * (1 - trials) / (m * n) * (1 + rest * ((1 - trials) / (2 - trials) + trials / (1 + trials)))
    )
    inside = trials[(trials - area) ** 2 <= Z**2 * variance + 1e-12]
    return float(inside.min(initial=area)), float(inside.max(initial=area))


def intervals(positives: Floats, negatives: Floats, *, seed: int | None) -> Mapping[str, Ends]:
    """Return the interval of each method; without a seed no bootstrap, which is slow."""
    m, n = len(positives), len(negatives)
    ours = delong(positives, negatives)
    assert ours is not None
    area, deviation = ours.auroc, float(np.sqrt(ours.variance))
    fallback = wilson(area * min(m, n), min(m, n))
    assert fallback is not None
    hanley = float(np.sqrt(hanley_mcneil(area, m, n)))
    found: dict[str, Ends] = {
        "DeLong": (area - Z * deviation, area + Z * deviation),
        "DeLong, logit (before)": tuple(fallback),
        "Hanley-McNeil": (area - Z * hanley, area + Z * hanley),
        "Newcombe 5": newcombe(area, m, n),
        "Wilson of m trials": tuple(fallback),
        "labelassemble": tuple(ours.interval),
    }
    if deviation > 0 and 0 < area < 1:
        half = Z * deviation / (area * (1 - area))
        found["DeLong, logit (before)"] = float(expit(logit(area) - half)), float(expit(logit(area) + half))
    if seed is not None:
        areas = auroc_replicates(
            [Ranking(positives, negatives, np.arange(m), m + np.arange(n))], m + n, replicates=300, seed=seed
        )[0]
        found["bootstrap, percentiles"] = tuple(percentile_interval(areas) or (area, area))
    return found


def coverage(
    positives: int, samples: int, bootstrapped: int, rng: np.random.Generator
) -> dict[str, dict[str, list[float]]]:
    """Return by method and shape the share of samples whose interval holds the truth, by area, and the width."""
    result: dict[str, dict[str, list[float]]] = {}
    for shape in SHAPES:
        for area in AREAS:
            held: dict[str, list[bool]] = {}
            width: dict[str, list[float]] = {}
            for index in range(samples):
                found = intervals(
                    *sample(shape, area, positives, rng), seed=index if index < bootstrapped else None
                )
                for name, (low, high) in found.items():
                    held.setdefault(name, []).append(low <= area <= high)
                    width.setdefault(name, []).append(min(1.0, high) - max(0.0, low))
            for name in held:
                result.setdefault(name, {}).setdefault(shape, []).append(float(np.mean(held[name])))
                result[name].setdefault("width", []).append(float(np.mean(width[name])))
    return result


def pair(
    shape: str, area: float, positives: int, shared: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return scores [2, m] and [2, n] of two scorers whose AUROC is `area`; their noise is correlated by `shared`."""
    common, own = rng.standard_normal(positives + NEGATIVES), rng.standard_normal((2, positives + NEGATIVES))
    scores = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    first, second = scores[:, :positives], scores[:, positives:]
    if shape == "found or not":
        draws = np.sqrt(shared) * rng.standard_normal(positives)
        draws = draws + np.sqrt(1 - shared) * rng.standard_normal((2, positives))
        return first + 8.0 * (draws < ndtri(2 * area - 1)), second
    spread = SPREADS[shape]
    return np.sqrt(1 + spread**2) * ndtri(area) + spread * first, second


def false_alarms(
    positives: int, samples: int, rng: np.random.Generator
) -> Iterator[tuple[str, list[float], list[float]]]:
    """Yield for each shape how often p is below 0.05 by DeLong's test and by ours, for each area and correlation."""
    for shape in SHAPES:
        shares: tuple[list[float], list[float]] = ([], [])
        for area, shared in product(AREAS, CORRELATIONS):
            normal = ours = 0
            for _ in range(samples):
                test = paired_delong(*pair(shape, area, positives, shared, rng))
                assert test is not None
                if test.variance and test.p is not None:
                    normal += 2 * ndtr(-abs(test.difference) / np.sqrt(test.variance)) < 0.05
                    ours += test.p < 0.05
            shares[0].append(normal / samples)
            shares[1].append(ours / samples)
        yield shape, *shares


def coverage_by_patient(positives: int, samples: int, rng: np.random.Generator) -> dict[str, list[float]]:
    """Return by method how often the truth is held where patients have one to four images that are alike, by area.

    Half of the variance of a score is the patient's.
    """
    held: dict[str, list[float]] = {}
    for area in AREAS:
        found: dict[str, list[bool]] = {}
        for seed in range(samples):
            images = rng.integers(1, 5, positives + PATIENTS)
            patients = np.repeat(np.arange(positives + PATIENTS), images)
            labels = (patients < positives).astype(int)
            noise = rng.standard_normal(positives + PATIENTS)[patients] + rng.standard_normal(len(patients))
            scores = noise / np.sqrt(2) + np.sqrt(2) * ndtri(area) * labels
            for name, ends in by_patient(labels, scores, patients, seed).items():
                found.setdefault(name, []).append(ends is not None and ends[0] <= area <= ends[1])
        for name, own in found.items():
            held.setdefault(name, []).append(float(np.mean(own)))
    return held


def by_patient(
    labels: NDArray[np.int64], scores: Floats, patients: NDArray[np.int64], seed: int
) -> dict[str, Ends | None]:
    """Return the intervals that take a patient's images together; a percentile interval of one point as that point."""
    positive = labels == 1
    groups = {"positive_groups": patients[positive], "negative_groups": patients[~positive]}
    found = delong(scores[positive], scores[~positive], **groups)
    assert found is not None
    ranking = Ranking(
        scores[positive], scores[~positive], groups["positive_groups"], groups["negative_groups"]
    )
    areas = auroc_replicates([ranking], int(patients.max()) + 1, replicates=200, seed=seed)[0]
    percentiles = percentile_interval(areas) or (found.auroc, found.auroc)
    return {
        "DeLong by patient (labelassemble)": tuple(found.interval),
        "bootstrap, percentiles (before)": tuple(percentiles),
        "bootstrap (labelassemble)": auroc_interval_of(ranking, areas) or tuple(found.interval),
    }


def coverage_of_mean(
    positives: int, areas: tuple[float, ...], shared: float, samples: int, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Return by method how often the mean of the classes' true AUROCs is held, and the mean width.

    Every image has scores of all classes, whose noise is correlated by `shared`; each class has its own positives.
    """
    images, truth = 3 * positives + 100, float(np.mean(areas))
    held: dict[str, list[bool]] = {}
    width: dict[str, list[float]] = {}
    for seed in range(samples):
        noise = np.sqrt(1 - shared) * rng.standard_normal((len(areas), images))
        noise += np.sqrt(shared) * rng.standard_normal(images)
        rankings, rows = [], np.arange(images)
        for row, area in zip(noise, areas, strict=True):
            labels = np.isin(rows, rng.choice(images, positives, replace=False))
            scores = row + np.sqrt(2) * ndtri(area) * labels
            rankings.append(Ranking(scores[labels], scores[~labels], rows[labels], rows[~labels]))
        replicates = auroc_replicates(rankings, images, replicates=150, seed=seed)
        found = {
            "bootstrap, percentiles (before)": percentile_interval(replicates.mean(axis=0)),
            "labelassemble": mean_interval_of(rankings, replicates),
        }
        for name, interval in found.items():
            if interval is None:
                continue
            held.setdefault(name, []).append(interval.lower <= truth <= interval.upper)
            width.setdefault(name, []).append(interval.upper - interval.lower)
    return {name: (float(np.mean(held[name])), float(np.mean(width[name]))) for name in held}


def print_mean(samples: int, rng: np.random.Generator) -> None:
    """Print the table of the intervals of a mean of AUROCs."""
    cells = list(product(((0.8, 0.8), (0.6, 0.75, 0.9, 0.95)), (0.0, 0.5)))
    print(
        f"\nThe mean of the AUROCs of two and of four classes, whose noise is correlated by 0 and by 0.5: coverage "
        f"(width), {samples} samples a cell.\n"
    )
    heads = [f"{', '.join(f'{area:g}' for area in areas)}; {shared:g}" for areas, shared in cells]
    print(f"| positives a class | method | {' | '.join(heads)} |\n|---:|---|{'---:|' * len(cells)}")
    for positives in (3, 5, 10, 30, 100):
        found = [coverage_of_mean(positives, *cell, samples, rng) for cell in cells]
        for name in found[0]:
            said = [f"{each[name][0]:.3f} ({each[name][1]:.3f})" for each in found]
            print(f"| {positives} | {name} | {' | '.join(said)} |", flush=True)


def print_intervals(samples: int, bootstrapped: int, rng: np.random.Generator) -> None:
    """Print the table of intervals of one AUROC."""
    print(
        f"{samples} samples a cell ({bootstrapped} for the bootstrap), {NEGATIVES} negatives, AUROC "
        f"{', '.join(f'{area:g}' for area in AREAS)}. For each shape of the positives' scores: the lowest coverage of "
        "an AUROC, and the mean. Width: mean of all.\n"
    )
    print(f"| positives | method | {' | '.join(SHAPES)} | width |\n|---:|---|{'---|' * len(SHAPES)}---:|")
    for positives in POSITIVES:
        for name, found in coverage(positives, samples, bootstrapped, rng).items():
            cells = [f"{min(found[shape]):.3f} / {np.mean(found[shape]):.3f}" for shape in SHAPES]
            print(
                f"| {positives} | {name} | {' | '.join(cells)} | {np.mean(found['width']):.3f} |", flush=True
            )


def print_paired(samples: int, rng: np.random.Generator) -> None:
    """Print the table of the paired test."""
    print(
        f"\nPaired test of two scorers of the same AUROC ({', '.join(f'{area:g}' for area in AREAS)}), whose noise is "
        f"correlated by {', '.join(f'{c:g}' for c in CORRELATIONS)}: share of p below 0.05, {samples} samples a cell; "
        "for each shape the highest, and the mean.\n"
    )
    print(f"| positives | test | {' | '.join(SHAPES)} |\n|---:|---|{'---|' * len(SHAPES)}")
    for positives in POSITIVES:
        rows = list(false_alarms(positives, samples, rng))
        for index, name in ((1, "DeLong's (before)"), (2, "labelassemble")):
            cells = [f"{max(row[index]):.3f} / {np.mean(row[index]):.3f}" for row in rows]
            print(f"| {positives} | {name} | {' | '.join(cells)} |", flush=True)


def print_by_patient(samples: int, rng: np.random.Generator) -> None:
    """Print the table of the intervals by patient."""
    print(
        f"\nIntervals by patient: {PATIENTS} negative patients, one to four images each, half of the variance the "
        f"patient's; coverage of each AUROC, {samples} samples a cell.\n"
    )
    print(f"| positive patients | method | {' | '.join(f'{area:g}' for area in AREAS)} |")
    print(f"|---:|---|{'---:|' * len(AREAS)}")
    for positives in POSITIVES:
        for name, held in coverage_by_patient(positives, samples, rng).items():
            print(f"| {positives} | {name} | {' | '.join(f'{share:.3f}' for share in held)} |", flush=True)


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--bootstrapped", type=int, default=100)
    parser.add_argument("--tables", nargs="+", default=["intervals", "paired", "patients", "mean"])
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{machine()}\n")
    if "intervals" in given.tables:
        print_intervals(given.samples, given.bootstrapped, rng)
    if "paired" in given.tables:
        print_paired(given.samples, rng)
    if "patients" in given.tables:
        print_by_patient(given.bootstrapped, rng)
    if "mean" in given.tables:
        print_mean(given.bootstrapped, rng)


if __name__ == "__main__":
    main()
