"""Source leakage: how well a model's features tell the sources apart.

A model that recognises the hospital looks good for the wrong reason wherever hospitals differ in how common a finding
is (Zech et al., PLoS Medicine 2018). The method, in full:

1. Features are the pooled ones that the head sees, [N, D], of images that the model was not trained on. Sources with
   fewer than `LEAST` patients are left out; of each of the S others at most `MOST` / S images are drawn.
2. Patients of each source are dealt to five folds. For each fold a multinomial logistic regression of the source is
   fitted to the other folds, on features standardised by them: the sum of -log p(source) plus half the squared norm
   of the weights (what scikit-learn calls C = 1), minimised by L-BFGS.
3. A source's AUC is one-vs-rest: how often an image of that source gets a higher probability of it than an image of
   another source does. Only images of the same fold are compared, since two fits have two scales; folds are weighted by
   their number of pairs. `auc` is the plain mean over sources.
4. Sources that label different things, or have different shares of positives, could be told apart by the findings
   alone. So `within` compares only images that also have the same known label of the same class, pairs weighted
   alike, over all classes and both labels. It is not defined where no class is labelled by two sources.

About 0.5: the features do not show where an image comes from. 1: they always do. Sources that differ in patients, not
just in devices, may rightly look different, so a high value is a reason to look within each source, not a verdict.

The regression is these few lines on scipy's L-BFGS, since scikit-learn would be a dependency of everybody for one call;
a test holds it against scikit-learn's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from labelassemble._files import write_text
from labelassemble.data.predictions import Predictions
from labelassemble.data.text import TextArray, text_codes
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.bootstrap import patient_indices
from labelassemble.evaluation.metrics import auroc_of

LEAST: Final = 10
"""Sources with fewer patients are left out: a fold of one or two patients says nothing."""
MOST: Final = 3000
"""Images drawn, over all sources; more would only make it slower."""
FOLDS: Final = 5
LEAKAGE_FILE: Final = "leakage.json"
"""In a run's folder, or in that of an evaluation on other data."""

Floats = NDArray[np.floating]
Codes = NDArray[np.intp]
FeaturesOf = Callable[[Codes], Floats | None]
"""Gives the features of some rows of a table, None where the network has none."""


@dataclass(frozen=True, slots=True)
class SourceLeak:
    """How well one source is told from the others."""

    source: str
    images: int
    auc: float
    within: float | None  # among images with the same label


@dataclass(frozen=True, slots=True)
class Leakage:
    """How well the features tell the sources apart; see the head of this file for the method."""

    split: str  # whose images
    images: int
    sources: tuple[SourceLeak, ...]
    auc: float  # mean over sources
    within: float | None  # mean over the sources where it is defined
    left_out: tuple[str, ...]  # sources with too few patients

    @property
    def images_of(self) -> str:
        """The split as a word: "test" or "validation"."""
        return "validation" if self.split == "val" else self.split


_FILE: Final = TypeAdapter[Leakage | None](Leakage | None)


def write_leakage(leakage: Leakage | None, folder: Path) -> None:
    """Write leakage.json for commands that start from a run's folder; null says that it could not be measured."""
    write_text(folder / LEAKAGE_FILE, _FILE.dump_json(leakage, indent=1).decode() + "\n")


def read_leakage(folder: Path) -> Leakage | None:
    """Return what leakage.json holds.

    Raises:
        LabelAssembleError: no such file, or one that is damaged.
    """
    path = folder / LEAKAGE_FILE
    try:
        return _FILE.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not as `labelassemble evaluate` writes it"
        raise LabelAssembleError(f"{path}: cannot be read ({reason})") from None


def leakage_of(predictions: Predictions, features_of: FeaturesOf, *, seed: int = 0) -> Leakage | None:
    """Return how well features tell sources apart: on test images, or validation ones where those are of one source.

    Args:
        predictions: N images.
        features_of: asked for the features of the images that are drawn, `MOST` at most.
        seed: of the folds and of the draw.

    Returns:
        None where neither split has two sources of `LEAST` patients.
    """
    for split in ("test", "val"):
        rows = np.flatnonzero(predictions.splits == split)
        part = predictions.select(rows)
        found = _source_leakage(
            partial(_features_among, features_of, rows),
            part.sources,
            part.groups,
            part.given_targets(),
            split=split,
            seed=seed,
        )
        if found is not None:
            return found
    return None


def _features_among(features_of: FeaturesOf, rows: Codes, drawn: Codes) -> Floats | None:
    return features_of(rows[drawn])


def source_leakage(
    features: Floats,
    sources: TextArray,
    groups: TextArray,
    targets: NDArray[np.float64],
    *,
    split: str = "test",
    seed: int = 0,
) -> Leakage | None:
    """Return how well features tell sources apart, by the method at the head of this file.

    Args:
        features: [N, D], finite.
        sources: text [N].
        groups: the patient of each image, text [N]; "" is a patient of its own.
        targets: [N, C], 1, 0 or NaN = not counted.
        split: what the images are called in sentences.
        seed: of the folds and of the draw.

    Returns:
        None where fewer than two sources have `LEAST` patients.

    Raises:
        LabelAssembleError: features that are not finite, or shapes that do not fit.
    """
    if features.ndim != 2 or len(features) != len(sources) or len(targets) != len(sources):
        raise LabelAssembleError(
            f"features must be [N, D] and targets [N, C] for {len(sources)} images, "
            f"got {list(features.shape)} and {list(targets.shape)}"
        )
    return _source_leakage(lambda rows: features[rows], sources, groups, targets, split=split, seed=seed)


def _source_leakage(
    features_of: FeaturesOf,
    sources: TextArray,
    groups: TextArray,
    targets: NDArray[np.float64],
    *,
    split: str,
    seed: int,
) -> Leakage | None:
    patients = patient_indices(groups, len(sources))
    names, codes = text_codes(sources)
    enough = [code for code in range(len(names)) if len(np.unique(patients[codes == code])) >= LEAST]
    if len(enough) < 2:
        return None
    rng = np.random.default_rng(seed)
    drawn = np.sort(
        np.concatenate(
            [rng.permutation(np.flatnonzero(codes == code))[: MOST // len(enough)] for code in enough]
        )
    )
    order = np.searchsorted(enough, codes[drawn])
    folds = _folds(patients[drawn], order, rng)
    features = features_of(drawn)
    if features is None:
        return None
    if not np.isfinite(features).all():
        raise LabelAssembleError("features must be finite")
    scores = _out_of_fold(features, order, folds, len(enough))
    leaks = _leaks(scores, order, folds, targets[drawn], [str(names[code]) for code in enough])
    if leaks is None:
        return None
    defined = [leak.within for leak in leaks if leak.within is not None]
    return Leakage(
        split=split,
        images=len(drawn),
        sources=tuple(leaks),
        auc=float(np.mean([leak.auc for leak in leaks])),
        within=float(np.mean(defined)) if defined else None,
        left_out=tuple(str(name) for code, name in enumerate(names) if code not in enough),
    )


def _leaks(
    scores: NDArray[np.float64],
    sources: Codes,
    folds: Codes,
    targets: NDArray[np.float64],
    names: Sequence[str],
) -> list[SourceLeak] | None:
    """Return how well each source is told from the others, None where no fold holds a source and another."""
    same_fold = [folds == fold for fold in range(FOLDS)]
    same_label = [fold & (column == state) for fold in same_fold for column in targets.T for state in (0, 1)]
    leaks = []
    for code, name in enumerate(names):
        mine = sources == code
        auc = _pairwise(scores[:, code], mine, same_fold)
        if auc is None:
            return None
        leaks.append(SourceLeak(name, int(mine.sum()), auc, _pairwise(scores[:, code], mine, same_label)))
    return leaks


def _folds(patients: Codes, sources: Codes, rng: np.random.Generator) -> Codes:
    """Return a fold [N] such that a patient's images share one and every source is in all of them."""
    _, first, patient = np.unique(patients, return_index=True, return_inverse=True)
    of_patient = np.empty(len(first), np.intp)
    for code in np.unique(sources):
        mine = rng.permutation(np.flatnonzero(sources[first] == code))
        of_patient[mine] = np.arange(len(mine)) % FOLDS
    folds: Codes = of_patient[patient]
    return folds


def _out_of_fold(features: Floats, sources: Codes, folds: Codes, count: int) -> NDArray[np.float64]:
    """Return each source's log-probability [N, S] from a regression without the image's patient."""
    scores = np.zeros((len(features), count))
    for fold in range(FOLDS):
        inside = folds == fold
        train = features[~inside].astype(np.float64)
        mean, spread = train.mean(axis=0), train.std(axis=0)
        spread[spread == 0] = 1
        weights = multinomial_regression((train - mean) / spread, sources[~inside], count)
        held_out = (features[inside] - mean) / spread
        # A source's log odds against the rest: rises with its probability and does not saturate at 1.
        logits = held_out @ weights[:-1] + weights[-1]
        for column in range(count):
            rest = np.delete(logits, column, axis=1)
            scores[inside, column] = logits[:, column] - np.logaddexp.reduce(rest, axis=1)
    return scores


def multinomial_regression(x: Floats, classes: Codes, count: int) -> NDArray[np.float64]:
    """Return weights [D + 1, S], the intercept last, that minimise sum -log softmax + |weights|^2 / 2.

    Args:
        x: [N, D], standardised.
        classes: [N], each in [0, S).
        count: S.
    """
    size, width = x.shape
    one_hot = np.zeros((size, count))
    one_hot[np.arange(size), classes] = 1

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(width + 1, count)
        logits = x @ weights[:-1] + weights[-1]
        value = -log_softmax(logits, axis=1)[np.arange(size), classes].sum()
        slope = softmax(logits, axis=1) - one_hot
        gradient = np.concatenate([x.T @ slope + weights[:-1], slope.sum(axis=0, keepdims=True)])
        return float(value + 0.5 * (weights[:-1] ** 2).sum()), gradient.ravel()

    found = minimize(
        loss, np.zeros((width + 1) * count), jac=True, method="L-BFGS-B", options={"maxiter": 200}
    )
    best: NDArray[np.float64] = found.x.reshape(width + 1, count)
    return best


def _pairwise(
    scores: NDArray[np.float64], mine: NDArray[np.bool_], strata: Sequence[NDArray[np.bool_]]
) -> float | None:
    """Return the share of (mine, other) pairs of the same stratum that are ranked right; None without a pair."""
    won, pairs = 0.0, 0
    for stratum in strata:
        own, other = scores[stratum & mine], scores[stratum & ~mine]
        area = auroc_of(own, other)
        if area is not None:
            won += area * len(own) * len(other)
            pairs += len(own) * len(other)
    return won / pairs if pairs else None
