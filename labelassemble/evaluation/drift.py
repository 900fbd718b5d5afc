"""Drift: whether what a model sees and answers in use still looks like what it was validated on.

Each quantity (the score of a class, a statistic of the images, the share of unreadable files) is compared with the
validation images. Three known measures: the two-sample Kolmogorov-Smirnov test (Fisher's exact test for the share), the
population stability index over tenths of the reference (PSI; below 0.1 is commonly called stable, from 0.25 on a large
shift), and the Jensen-Shannon distance over the same tenths.

A quantity has **drifted** where its p-value, corrected for the number of quantities (Holm), is below `ALPHA` and its
PSI is `MATTERS` or more; where the test alone says so, the shift is small. Holm's correction keeps the probability that
a report without any change cries drift to at most `ALPHA`; tests/evaluation/test_drift.py simulates it. The tests take
images as independent, so the reference has one image per patient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import fisher_exact, ks_2samp

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.compare_runs import holm

ALPHA: Final = 0.05
"""Highest probability that a report without any change cries drift."""
MATTERS: Final = 0.1
"""PSI from which on a shift is called drift."""
LEAST: Final = 50
"""With fewer images on either side nothing is said."""
BINS: Final = 10

Kind = Literal["score", "input", "unreadable"]
Verdict = Literal["drift", "small shift", "no drift seen", "too few to say"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drift:
    """One quantity, compared with the reference."""

    name: str  # of the class or statistic
    kind: Kind
    reference: float | None  # mean, or share
    now: float | None
    psi: float | None  # None for the share
    distance: float | None  # Jensen-Shannon, 0 to 1; None for the share
    p: float | None  # corrected; None with too few
    verdict: Verdict
    edges: tuple[float, ...] = ()  # of the tenths, for the plot
    reference_shares: tuple[float, ...] = ()
    now_shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen in a period: of the reference, or in use.

    Attributes:
        scores: by class, the answers of the images that could be read, float64 [N].
        inputs: by name, statistics of the images, float64 [M].
        images: how many could be read, several of a patient among them.
        unreadable: how many could not; None where that is not known.
    """

    scores: Mapping[str, Floats]
    inputs: Mapping[str, Floats]
    images: int
    unreadable: int | None


class Monitored(NamedTuple):
    """A log compared with a run's validation images."""

    found: tuple[Drift, ...]
    reference: Observed
    now: Observed
    chosen_on: str  # what the reference is, in words
    noun: str  # what a row of the log is of: image, or case
    remarks: tuple[str, ...]


def drift_of(reference: Observed, now: Observed) -> tuple[Drift, ...]:
    """Return each quantity that both have, compared.

    Raises:
        LabelAssembleError: they have no class in common, or a score is no number.
    """
    if now.images and not set(reference.scores) & set(now.scores):
        raise LabelAssembleError(
            f"the log and the run have no class in common: the log has {', '.join(now.scores) or 'none'}, "
            f"the run {', '.join(reference.scores)}"
        )
    pairs: list[tuple[Kind, Mapping[str, Floats], Mapping[str, Floats]]] = [
        ("score", reference.scores, now.scores),
        ("input", reference.inputs, now.inputs),
    ]
    found = [
        _compared(name, kind, before[name], after[name])
        for kind, before, after in pairs
        for name in before
        if name in after
    ]
    if reference.unreadable is not None and now.unreadable is not None:
        found.append(_share((reference.unreadable, reference.images), (now.unreadable, now.images)))
    corrected = holm([item.p for item in found])
    return tuple(
        replace(item, p=p, verdict=_verdict(item, p)) for item, p in zip(found, corrected, strict=True)
    )


def _verdict(item: Drift, p: float | None) -> Verdict:
    if p is None:
        return "too few to say"
    if p >= ALPHA:
        return "no drift seen"
    return "drift" if item.psi is None or item.psi >= MATTERS else "small shift"


def _compared(name: str, kind: Kind, reference: Floats, now: Floats) -> Drift:
    for values in (reference, now):
        if not np.isfinite(values).all():
            raise LabelAssembleError(f"{name}: each value must be a finite number")
    before, after = (float(values.mean()) if len(values) else None for values in (reference, now))
    if min(len(reference), len(now)) < LEAST:
        return Drift(name, kind, before, after, None, None, None, "too few to say")
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = [_shares(values, edges) for values in (reference, now)]
    return Drift(
        name,
        kind,
        before,
        after,
        psi=population_stability(reference, now, edges),
        distance=float(jensenshannon(*shares, base=2)),
        p=float(ks_2samp(reference, now).pvalue),
        verdict="no drift seen",
        edges=tuple(edges.tolist()),
        reference_shares=tuple(shares[0].tolist()),
        now_shares=tuple(shares[1].tolist()),
    )


def _shares(values: Floats, edges: Floats, add: float = 0.0) -> Floats:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) + add
    found: Floats = counts / counts.sum()
    return found


def population_stability(reference: Floats, now: Floats, edges: Floats) -> float:
    """Return sum (q - p) ln(q / p) over bins, p and q the shares of both; half an image is added to each bin."""
    p, q = _shares(reference, edges, 0.5), _shares(now, edges, 0.5)
    return float(np.sum((q - p) * np.log(q / p)))


def _share(reference: tuple[int, int], now: tuple[int, int]) -> Drift:
    """Return the share of unreadable files compared; each pair is (unreadable, readable)."""
    before, after = (bad / (bad + good) if bad + good else None for bad, good in (reference, now))
    few = min(sum(reference), sum(now)) < LEAST
    p = None if few else float(fisher_exact([now, reference])[1])
    return Drift("unreadable files", "unreadable", before, after, None, None, p, "no drift seen")


def overall(found: Sequence[Drift], noun: str = "image") -> str:
    """Return the verdict over all quantities, a sentence; `noun` is what a row of the log is of."""
    drifted = [item for item in found if item.verdict == "drift"]
    if drifted:
        names = ", ".join(_named(item) for item in drifted)
        return f"Drift: {names}. Look for the reason before you trust the model's answers on these {noun}s."
    if all(item.verdict == "too few to say" for item in found):
        return f"Too few to say (at least {LEAST} on both sides)."
    small = [item for item in found if item.verdict == "small shift"]
    few = [item for item in found if item.verdict == "too few to say"]
    said = "No drift seen."
    if small:
        said = f"No drift that matters; small shifts: {', '.join(_named(item) for item in small)}."
    if few:  # what was not compared is no all-clear
        said = (
            f"Too few to say (at least {LEAST} on both sides): {', '.join(_named(item) for item in few)}. "
            + (f"Of the rest: {said[0].lower()}{said[1:]}")
        )
    return said


def _named(item: Drift) -> str:
    return f"score of {item.name}" if item.kind == "score" else item.name
