"""How often intervals of an AUROC hold the truth with few positives: coverage and width of several methods.

    python benchmarks/auroc_intervals.py > benchmarks/results/auroc_intervals.md

Scores of 200 negatives are normal; those of the positives are normal too, of the same spread, twice or half of it, or a
mixture: found (far above) or not (like a negative). The last is the hardest that an AUROC can be to measure, the third
the easiest. Each method sees the same samples. To hold 95% of the truths is right; more is careful, less promises too
much. The second table is the paired test of two scorers of the same AUROC: how often its p is below 0.05.
"""

import argparse
from collections.abc import Iterator, Mapping

import numpy as np
from harness import machine
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri

from labelassemble.evaluation.auroc_interval import hanley_mcneil
from labelassemble.evaluation.bootstrap import bootstrap_auroc
from labelassemble.evaluation.statistics import delong, paired_delong, wilson

Floats = NDArray[np.float64]
Ends = tuple[float, float]

NEGATIVES = 200
POSITIVES = (3, 5, 10, 20, 30, 50, 100)
AREAS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SHAPES = ("equal spread", "half the spread", "twice the spread", "found or not")
Z = float(ndtri(0.975))


def sample(shape: str, area: float, positives: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return scores of positives and negatives whose true AUROC is `area`."""
    negative = rng.standard_normal(NEGATIVES)
    if shape == "found or not":
        found = rng.random(positives) < 2 * area - 1
        return rng.standard_normal(positives) + 8.0 * found, negative
    spread = {"equal spread": 1.0, "half the spread": 0.5, "twice the spread": 2.0}[shape]
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
        labels = np.repeat([1, 0], [m, n])
        made = bootstrap_auroc(labels, np.concatenate([positives, negatives]), replicates=300, seed=seed)
        found["bootstrap"] = (area, area) if made is None else tuple(made)
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


def false_alarms(positives: int, samples: int, rng: np.random.Generator) -> Iterator[float]:
    """Yield for each area how often the paired test of two scorers of that AUROC, correlated by half, says p < 0.05."""
    for area in AREAS:
        shift, alarms = np.sqrt(2) * ndtri(area), 0
        for _ in range(samples):
            own, common = (
                rng.standard_normal((2, positives + NEGATIVES)),
                rng.standard_normal(positives + NEGATIVES),
            )
            scores = np.sqrt(0.5) * (own + common)
            scores[:, :positives] += shift
            test = paired_delong(scores[:, :positives], scores[:, positives:])
            assert test is not None
            alarms += test.p is not None and test.p < 0.05
        yield alarms / samples


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--bootstrapped", type=int, default=100)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{machine()}\n")
    print(
        f"{given.samples} samples a cell ({given.bootstrapped} for the bootstrap), {NEGATIVES} negatives, AUROC "
        f"{', '.join(f'{area:g}' for area in AREAS)}. For each shape of the positives' scores: the lowest coverage of "
        "an AUROC, and the mean. Width: mean of all.\n"
    )
    print(f"| positives | method | {' | '.join(SHAPES)} | width |\n|---:|---|{'---|' * len(SHAPES)}---:|")
    for positives in POSITIVES:
        for name, found in coverage(positives, given.samples, given.bootstrapped, rng).items():
            cells = [f"{min(found[shape]):.3f} / {np.mean(found[shape]):.3f}" for shape in SHAPES]
            print(
                f"| {positives} | {name} | {' | '.join(cells)} | {np.mean(found['width']):.3f} |", flush=True
            )
    print("\nPaired test of two scorers of the same AUROC, correlated by half: share of p below 0.05.\n")
    print(f"| positives | {' | '.join(f'AUROC {area:g}' for area in AREAS)} |\n|---:|{'---:|' * len(AREAS)}")
    for positives in POSITIVES:
        cells = [f"{share:.3f}" for share in false_alarms(positives, given.samples, rng)]
        print(f"| {positives} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
