"""Several runs held against each other within each value of a subgroup that they carry."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from labelassemble.data.predictions import Predictions
from labelassemble.evaluation.compare import ComparedClass, compare, measure
from labelassemble.evaluation.results import MISSING
from labelassemble.evaluation.statistics import PairedTest
from labelassemble.evaluation.subgroups import subgroup_values


@dataclass(frozen=True)
class SubgroupPair:
    """Two runs on one class and one value of a subgroup; the difference is first minus second."""

    first: str
    second: str
    test: PairedTest | None
    reason: str  # why there is no test, "" where there is one


@dataclass(frozen=True)
class ComparedValue:
    """What the runs reach on one class, on the test images that have one value of a subgroup."""

    subgroup: str
    value: str
    name: str  # of the class
    runs: Mapping[str, ComparedClass]
    pairs: tuple[SubgroupPair, ...]


def compare_subgroups(
    runs: Mapping[str, Predictions],
    classes: Sequence[str],
    age_bands: Sequence[float],
    *,
    worth_testing: Callable[[str, str], bool],
) -> tuple[ComparedValue, ...]:
    """Return the runs compared within each value of the subgroups that two of them or more carry.

    Args:
        runs: Their predictions, by name.
        classes: Those that two runs or more predict.
        age_bands: Ages in years, rising, at which a band begins.
        worth_testing: Whether two runs, by name, are tested against each other.
    """
    carried = [name for predictions in runs.values() for name in predictions.subgroups]
    found = []
    for subgroup in dict.fromkeys(name for name in carried if carried.count(name) > 1):
        parts = {
            run: _parts(predictions.subset_by_split("test"), subgroup, age_bands)
            for run, predictions in runs.items()
            if subgroup in predictions.subgroups
        }
        for value in _in_order([list(part) for part in parts.values()]):
            for name in classes:
                own = {
                    run: part[value]
                    for run, part in parts.items()
                    if value in part and name in part[value].classes
                }
                pairs = tuple(
                    _pair(first, second, own, name)
                    for first, second in combinations(own, 2)
                    if worth_testing(first, second)
                )
                measured = {run: measure(predictions, name) for run, predictions in own.items()}
                if measured:
                    found.append(ComparedValue(subgroup, value, name, measured, pairs))
    return tuple(found)


def _parts(rows: Predictions, subgroup: str, age_bands: Sequence[float]) -> dict[str, Predictions]:
    """Return the images of each value, and those where it is missing."""
    names, code = subgroup_values(subgroup, rows.subgroups[subgroup], age_bands)
    parts = {name: rows.select(code == number) for number, name in enumerate(names)}
    if (code < 0).any():
        parts[MISSING] = rows.select(code < 0)
    return parts


def _in_order(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return every name once, in order of first appearance, what is missing last."""
    names = list(dict.fromkeys(name for names in lists for name in names if name != MISSING))
    return names + [MISSING] * any(MISSING in names for names in lists)


def _pair(first: str, second: str, own: Mapping[str, Predictions], name: str) -> SubgroupPair:
    found = compare(own[first], own[second], name)
    return SubgroupPair(first, second, found.test, found.reason)
