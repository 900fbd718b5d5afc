"""What a patient's classes can be guessed by without a lesion: a border, a histogram, 8x8 pixels.

Patients with different lesions often come from different devices, hospitals and views. A patient's AUROC that is no
higher than these is no sign that a lesion was found. Each is a logistic regression, one against the rest, on cases of
the training patients; its penalty is chosen by the AUROC over validation patients, and a patient's score is the mean of
the probabilities of all cases.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch.nn import functional

from labelassemble.evaluation.leakage import multinomial_regression
from labelassemble.evaluation.metrics import auroc_of
from labelassemble.experiments.experiment import Baseline

Floats = NDArray[np.float64]

_SIDE: Final = 8  # of the thumbnail; of the border twice as many, of which two stay
_BINS: Final = 32
_PENALTIES: Final = (1.0, 10.0, 100.0, 1000.0)


def baseline_features(images: Sequence[NDArray[np.uint8]], kind: Baseline) -> Floats:
    """Return what a baseline sees of each image, float64 [N, D].

    Args:
        images: uint8 [*s] each, in two or three dimensions.
        kind: "border": the outer eighth along each side, averaged to 16 pixels a side; "histogram": the share of voxels
            in each of 32 bins; "thumbnail": the image averaged to 8 pixels a side.
    """
    if kind == "histogram":
        edges = np.linspace(0, 256, _BINS + 1)
        return np.stack([np.histogram(image, edges)[0] / image.size for image in images])
    if kind == "thumbnail":
        return np.stack([_averaged(image, _SIDE).reshape(-1) for image in images])
    inner = np.zeros((2 * _SIDE,) * images[0].ndim, np.bool_)
    inner[(slice(2, -2),) * images[0].ndim] = True
    return np.stack([_averaged(image, 2 * _SIDE)[~inner] for image in images])


def _averaged(image: NDArray[np.uint8], side: int) -> Floats:
    pixels = torch.from_numpy(np.ascontiguousarray(image)).double()[None]
    pool = functional.adaptive_avg_pool2d if image.ndim == 2 else functional.adaptive_avg_pool3d
    small = pool(pixels, side)
    found: Floats = small[0].numpy()
    return found


def patient_scores(
    features: Floats,
    labels: NDArray[np.bool_],
    patients: NDArray[np.intp],
    splits: Sequence[NDArray[np.intp]],
) -> Floats:
    """Return the score of each test patient, in the order of `numpy.unique` of their codes, float64 [P, C].

    Args:
        features: [N, D].
        labels: of the cases, [N, C].
        patients: whose each case is, [N].
        splits: rows of training, validation and test.
    """
    train, validation, test = splits
    mean, spread = features[train].mean(axis=0), features[train].std(axis=0)
    x = (features - mean) / np.where(spread > 0, spread, 1.0)
    columns = []
    for column in range(labels.shape[1]):
        y = labels[:, column]
        fits = [_regression(x[train], y[train], penalty) for penalty in _PENALTIES]
        areas = [
            _area(expit(_score(x[validation], fit)), y[validation], patients[validation]) for fit in fits
        ]
        best = fits[int(np.argmax(areas))]
        columns.append(_by_patient(expit(_score(x[test], best)), patients[test]))
    return np.stack(columns, axis=1)


def _regression(x: Floats, y: NDArray[np.bool_], penalty: float) -> Floats:
    """Return weights [D + 1] of the log-odds, the intercept last."""
    weights = multinomial_regression(x / np.sqrt(penalty), y.astype(np.intp), 2)
    odds: Floats = weights[:, 1] - weights[:, 0]
    odds[:-1] /= np.sqrt(penalty)
    return odds


def _score(x: Floats, weights: Floats) -> Floats:
    found: Floats = x @ weights[:-1] + weights[-1]
    return found


def _by_patient(values: NDArray[np.floating], patients: NDArray[np.intp]) -> Floats:
    code = np.unique(patients, return_inverse=True)[1]
    found: Floats = np.bincount(code, values) / np.bincount(code)
    return found


def _area(scores: Floats, y: NDArray[np.bool_], patients: NDArray[np.intp]) -> float:
    """Return the AUROC over patients, who have a class where one case has it; 0.5 where it is not defined."""
    mine, has = _by_patient(scores, patients), _by_patient(y.astype(np.float64), patients) > 0
    area = auroc_of(mine[has], mine[~has])
    return 0.5 if area is None else area
