"""From the frame of runs to what it shows: means with intervals, differences with tests, gains."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from labelassemble.experiments.experiment import Comparison, Test

COSINES: Final = ("cosine", "cosine_of_classifiers", "cosine_of_features")
"""How alike two assembled classes are: their queries, the classifiers these become, their mean features."""

COLUMNS: Final = (
    *("setting", "data", "interest", "arm", "other", "size", "seed"),
    *("auc", "auc_low", "auc_high", "test_positives", "test_negatives", "train_images", "train_positives"),
    *("best_epoch", "epochs", "steps", "seconds", *COSINES),
    *("unknown", "unknown_above", "unknown_positive", "unknown_auc", "auc_best", "threshold"),
    *(f"{rate}{end}" for rate in ("sensitivity", "specificity", "accuracy") for end in ("", "_low", "_high")),
    *("leakage", "leakage_within", "fingerprint"),
)
"""The columns of every frame of runs; ``auc:CLASS`` and ``auc@SOURCE`` follow where there are some."""
_TEXTS: Final = ("setting", "data", "interest", "arm", "other", "size", "fingerprint")


class Mean(NamedTuple):
    """A mean over seeds, its standard deviation and its 95% t interval; the last three NaN with one seed."""

    seeds: int
    mean: float
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan


class Difference(NamedTuple):
    """A difference of two means over seeds, its 95% interval and two-sided p; NaN where there is nothing to go by."""

    difference: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


class Correlation(NamedTuple):
    """Pearson's r over so many points, its 95% interval by Fisher's z (NaN below 4 points) and two-sided p."""

    points: int
    r: float
    low: float
    high: float
    p: float


def mean_interval(values: Sequence[float], *, within: tuple[float, float] = (-math.inf, math.inf)) -> Mean:
    """Return the mean of at least one value with Student's 95% interval, mean -/+ t(n - 1) s / sqrt(n).

    Args:
        values: one a seed.
        within: bounds of what can be, at which the interval is cut: (0, 1) for an AUC.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Mean(len(array), mean)
    deviation = float(array.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(array) - 1)) * deviation / len(array) ** 0.5
    return Mean(len(array), mean, deviation, max(within[0], mean - half), min(within[1], mean + half))


def t_test(first: Sequence[float], second: Sequence[float], test: Test) -> Difference:
    """Return mean(first) - mean(second) with interval and p.

    "two-sample-t" is Student's with equal variances (the paper's name for its test), "welch-t" without, "paired-t" is
    of the differences seed by seed.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    value = float(a.mean() - b.mean())
    paired = test == "paired-t"
    if min(len(a), len(b)) < 2 or (paired and len(a) != len(b)):
        return Difference(value)
    # Where nothing varies there is nothing to test by.
    if np.ptp(a - b) == 0 if paired else np.ptp(a) == 0 and np.ptp(b) == 0:
        return Difference(value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one side that does not vary, which a test allows
        result = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=test == "two-sample-t")
    interval = result.confidence_interval(0.95)
    return Difference(value, float(interval.low), float(interval.high), float(result.pvalue))


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Return Pearson's correlation, None below 3 points or where one side does not vary."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    result = stats.pearsonr(x, y)
    low = high = math.nan
    if len(x) > 3:
        low, high = map(float, result.confidence_interval(0.95))
    return Correlation(len(x), float(result.statistic), low, high, float(result.pvalue))


def read_runs(path: Path) -> pd.DataFrame:
    """Return the frame in a runs.csv, also of one that lacks newer columns."""
    frame = read_frame(path, _TEXTS)
    return frame.reindex(columns=[*COLUMNS, *(name for name in frame.columns if name not in COLUMNS)])


def runs_frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Return one row per run, with `COLUMNS` first."""
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*COLUMNS, *(name for name in frame.columns if name not in COLUMNS)])
    return frame.fillna({"other": np.nan})


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV with six significant digits."""
    frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def read_frame(path: Path, texts: Sequence[str]) -> pd.DataFrame:
    """Return a frame that `write_frame` wrote; the columns `texts` are text, in which "NA" or "None" is a name."""
    return pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])


def by_class(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run and class, its AUC in `auc` and the class in `of`; only where the metric is over classes."""
    runs = runs[runs["interest"].isna()]
    columns = [name for name in runs.columns if name.startswith("auc:")]
    keys = ["setting", "size", "arm", "other", "seed"]
    found = runs[keys + columns].melt(keys, var_name="of", value_name="auc")
    return found.assign(of=found["of"].str.removeprefix("auc:")).dropna(subset=["auc"])


def by_source(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run and source with what is measured in it; the source is in `of`."""
    measured = [name.partition("@") for name in runs.columns if "@" in name]
    frames = []
    for source in dict.fromkeys(source for _, _, source in measured):
        own = {name: runs[f"{name}@{source}"] for name, _, other in measured if other == source}
        frames.append(runs[["setting", "size", "arm", "other", "seed"]].assign(of=source, **own))
    return pd.concat(frames, ignore_index=True) if frames else runs.head(0).assign(of=[])


def means(runs: pd.DataFrame, value: str = "auc", *, of: bool = False) -> pd.DataFrame:
    """Return mean and interval of a column over seeds, in the order of the runs; runs without a value are left out.

    Args:
        runs: one row per run.
        value: the column, which lies in 0..1.
        of: group by the column `of` too.
    """
    keys = ["setting", "size", "arm", "other"] + ["of"] * of
    rows = [
        dict(zip(keys, key, strict=True)) | mean_interval(group[value].tolist(), within=(0.0, 1.0))._asdict()
        for key, group in runs.dropna(subset=[value]).groupby(keys, sort=False, dropna=False)
    ]
    return pd.DataFrame(rows, columns=[*keys, *Mean._fields])


def differences(runs: pd.DataFrame, comparisons: Sequence[Comparison], *, of: bool = False) -> pd.DataFrame:
    """Return the tests of an experiment; each over the seeds that both arms have."""
    keys = ["setting", "size"] + ["of"] * of
    rows = []
    for key, group in runs.dropna(subset=["auc"]).groupby(keys, sort=False, dropna=False):
        for other in group["other"].drop_duplicates():
            aucs = _by_seed(group, other)
            for comparison in comparisons:
                if not set(comparison.arms) <= set(aucs.columns):
                    continue
                pair = aucs[list(comparison.arms)].dropna()
                for test in comparison.tests if len(pair) else ():
                    first, second = (pair[arm].tolist() for arm in comparison.arms)
                    rows.append(
                        dict(zip(keys, key, strict=True))
                        | {"other": other, "first": comparison.arms[0], "second": comparison.arms[1]}
                        | {"seeds": len(pair), "test": test}
                        | t_test(first, second, test)._asdict()
                    )
    columns = [*keys, "other", "first", "second", "seeds", "test", *Difference._fields]
    return pd.DataFrame(rows, columns=columns)


def gains(runs: pd.DataFrame, comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return what each assembled class brought: mean over seeds of AUC with it minus AUC of the arm compared with."""
    rows = []
    for (setting, size), group in runs.groupby(["setting", "size"], sort=False):
        for other in group["other"].dropna().drop_duplicates():
            aucs = _by_seed(group, other)
            for first, second in (comparison.arms for comparison in comparisons):
                if not {first, second} <= set(aucs.columns):
                    continue
                mine = group[(group["arm"] == first) & (group["other"] == other)].set_index("seed")
                pair = aucs[[first, second]].join(mine[list(COSINES)])
                pair = pair.dropna(subset=[first, second, "cosine"])
                if len(pair):
                    cosines = pair[list(COSINES)].mean().to_dict()
                    gain = mean_interval((pair[first] - pair[second]).tolist())
                    about = {"setting": setting, "size": size, "arm": first, "other": other}
                    rows.append(about | cosines | gain._asdict())
    columns = ["setting", "size", "arm", "other", *COSINES, *Mean._fields]
    return pd.DataFrame(rows, columns=columns)


def _by_seed(group: pd.DataFrame, other: object) -> pd.DataFrame:
    """Return AUCs by seed and arm; arms that assemble no single class go with each that is."""
    mine = group["other"].isna()
    if isinstance(other, str):
        mine |= group["other"] == other
    return group[mine].pivot(index="seed", columns="arm", values="auc")
