"""The evaluation by subgroups of the images: by sex, age band, view or any other column that the table carries."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy.special import ndtri

from labelassemble.data.predictions import Predictions
from labelassemble.data.subgroup_options import AGE_BANDS, AgeBands
from labelassemble.data.subgroups import age_of
from labelassemble.data.text import TextArray, text_codes
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.bootstrap import (
    auroc_interval_of,
    auroc_replicates,
    percentile_interval,
)
from labelassemble.evaluation.calibration import Calibration
from labelassemble.evaluation.calibrators import LEAST
from labelassemble.evaluation.class_column import ClassColumn
from labelassemble.evaluation.proportion import Interval
from labelassemble.evaluation.results import MISSING, ClassResult, SubgroupGap, SubgroupResult, SubgroupValue

MOST: Final = 12
"""The commonest values of a subgroup that are evaluated apart; the others are taken together."""


_Areas: TypeAlias = list[NDArray[np.float64] | None]  # of each class the AUROC in each resample


def age_bands_of(config: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the age bands of a run's configuration, which may be of a version that knew none.

    Raises:
        LabelAssembleError: They are no age bands.
    """
    try:
        return TypeAdapter[tuple[float, ...]](AgeBands).validate_python(config.get("age_bands", AGE_BANDS))
    except ValidationError as error:
        raise LabelAssembleError(f"config.yaml, age_bands: {error.errors()[0]['msg']}") from None


def subgroup_values(
    name: str, values: TextArray, age_bands: Sequence[float] = AGE_BANDS
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the values of a subgroup that are evaluated apart, and which of them each image has, int64 [N].

    Ages are put into bands, in their order; other values stand by how common they are. -1 = missing; what is beyond the
    commonest `MOST` has the number behind the last.

    Args:
        name: Of the subgroup.
        values: Of each image, "" = missing, text [N].
        age_bands: Ages in years, rising, at which a band begins.
    """
    found, codes = text_codes(values)
    distinct = found.tolist()
    if name.casefold() == "age":
        ages = np.array([float(age_of(text) or math.nan) for text in distinct])
        names = age_band_names(age_bands)
        place = np.where(np.isnan(ages), -1, np.searchsorted(np.array(age_bands), ages, side="right"))
        there = [band for band in range(len(names)) if (place == band).any()]
        number = np.array([*(there.index(band) if band in there else -1 for band in range(len(names))), -1])
        return tuple(names[band] for band in there), number[place][codes]
    counts = np.bincount(codes, minlength=len(distinct))
    filled = [code for code, text in enumerate(distinct) if text]
    order = sorted(filled, key=lambda code: (-counts[code], distinct[code]))
    number = np.full(len(distinct), -1, dtype=np.int64)
    number[order] = np.minimum(np.arange(len(order)), MOST)
    return tuple(distinct[code] for code in order[:MOST]), number[codes]


def age_band_names(bounds: Sequence[float]) -> tuple[str, ...]:
    """Return what the bands are called: "under 18", "18 to 39", ..., "80 and over"."""
    middle = []
    for lower, upper in pairwise(bounds):
        whole = float(lower).is_integer() and float(upper).is_integer()
        middle.append(f"{lower:g} to {upper - 1:g}" if whole else f"{lower:g} to under {upper:g}")
    return f"under {bounds[0]:g}", *middle, f"{bounds[-1]:g} and over"


def evaluate_subgroups(
    rows: Predictions,
    columns: Sequence[ClassColumn],
    calibration: Calibration,
    *,
    age_bands: Sequence[float],
    replicates: int,
    seed: int,
) -> tuple[SubgroupResult, ...]:
    """Return the evaluation by each subgroup that the predictions carry.

    Thresholds are those of the whole; so are the patients of the bootstrap, so that resamples of two values can be held
    against each other.

    Args:
        rows: Of one split.
        columns: The same images, class by class.
        calibration: The thresholds.
        age_bands: Ages in years, rising, at which a band begins.
        replicates: Of the bootstrap; 0 leaves it out.
        seed: Of the bootstrap.
    """
    found = []
    for name, texts in rows.subgroups.items():
        names, code = subgroup_values(name, texts, age_bands)
        parts = [part for part in _parts(names, code, texts) if part[1].any()]
        chosen = [[column.select(inside) for column in columns] for _, inside, _ in parts]
        areas = _replicates(chosen, int(columns[0].patients.max()) + 1, replicates, seed)
        values = tuple(
            SubgroupValue(label, int(inside.sum()), _results(own, of_value, calibration), apart)
            for (label, inside, apart), own, of_value in zip(parts, chosen, areas, strict=True)
        )
        gaps = [_gap(values, areas, index) for index in range(len(columns))]
        missing = int(np.count_nonzero(code < 0))
        found.append(SubgroupResult(name, missing, values, tuple(gap for gap in gaps if gap is not None)))
    return tuple(found)


def _parts(
    names: Sequence[str], code: NDArray[np.int64], texts: TextArray
) -> Iterator[tuple[str, NDArray[np.bool_], bool]]:
    """Yield what is evaluated: what it is called, which images they are, and whether it is one value."""
    yield from ((name, code == number, True) for number, name in enumerate(names))
    rare = len(texts[code == len(names)].unique())
    yield f"{rare} other value{'s' * (rare > 1)}", code == len(names), False
    yield MISSING, code < 0, False


def _replicates(
    chosen: Sequence[Sequence[ClassColumn]], patients: int, replicates: int, seed: int
) -> list[_Areas]:
    """Return the AUROC of each class in each resample, for each part of the images; None without a bootstrap."""
    if not replicates:
        return [[None] * len(columns) for columns in chosen]
    rankings = [column.ranking() for columns in chosen for column in columns]
    areas = iter(auroc_replicates(rankings, patients, replicates=replicates, seed=seed))
    return [[next(areas) for _ in columns] for columns in chosen]


def _results(
    columns: Sequence[ClassColumn], areas: _Areas, calibration: Calibration
) -> tuple[ClassResult, ...]:
    results = []
    for column, resampled in zip(columns, areas, strict=True):
        result = column.result(calibration.of(column.name))
        if resampled is not None and result.auroc is not None:
            result = replace(result, bootstrap=auroc_interval_of(column.ranking(), resampled))
        results.append(result)
    return tuple(results)


def _gap(values: Sequence[SubgroupValue], areas: Sequence[_Areas], index: int) -> SubgroupGap | None:
    """Return the gap of class `index` among the values with `LEAST` positives and negatives; None for less than two."""
    found = [
        (result.auroc, value.value, own[index])
        for value, own in zip(values, areas, strict=True)
        if value.apart
        and (result := value.classes[index]).auroc is not None
        and min(result.positives, result.negatives) >= LEAST
    ]
    if len(found) < 2:
        return None
    worst, *_, best = sorted(found, key=lambda item: item[0])
    interval = None
    if best[2] is not None and worst[2] is not None:
        interval = _difference_interval(
            best[0] - worst[0], best[2], worst[2], len(found) * (len(found) - 1) // 2
        )
    return SubgroupGap(
        values[0].classes[index].name, best[1], worst[1], best[0] - worst[0], interval, len(found)
    )


def _difference_interval(
    difference: float, first: NDArray[np.float64], second: NDArray[np.float64], pairs: int
) -> Interval | None:
    """Return the normal interval of the difference of two AUROCs that are resampled together, at 95% for all `pairs`.

    Returns:
        None where the resamples of either give no interval: its spread is not known.
    """
    if percentile_interval(first) is None or percentile_interval(second) is None:
        return None
    resampled = first - second
    half = float(ndtri(1 - 0.025 / pairs) * np.std(resampled[~np.isnan(resampled)], ddof=1))
    return Interval(max(-1.0, difference - half), min(1.0, difference + half))
