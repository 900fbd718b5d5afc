"""Several runs held against each other: paired tests on the same images, and t-tests over seeds.

Two kinds of question, two tables of tests, and Holm's correction (Scandinavian Journal of Statistics 1979) over all
tests of a table:

- Are these two trained models different on these images? DeLong's paired test, by patient, for each class, between
  runs that are not of the same group; between two groups, runs of the same seed are paired.
- Are these two ways of training different? A group is one configuration trained with several seeds. Its AUROCs are
  compared by a two-sample t-test, as in Kang et al. (2023), who do not say whether the variances are taken to be
  equal: both Student's and Welch's are given, and Holm's correction is of Welch's, which needs no such assumption.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from labelassemble.data.predictions import Predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.compare import (
    ComparedClass,
    Within,
    compare,
    compared_within,
    measure,
    put_within,
    tied_to_source,
)
from labelassemble.evaluation.compare_subgroups import ComparedValue, compare_subgroups
from labelassemble.evaluation.leakage import Leakage
from labelassemble.evaluation.paired_calls import CallsTest, paired_calls
from labelassemble.evaluation.statistics import PairedTest
from labelassemble.evaluation.subgroups import age_bands_of

MEAN = "mean of the classes"
"""What stands for a class in t-tests over the mean AUROC of the classes that every run has."""


@dataclass(frozen=True)
class TestedRun:
    """A run to compare.

    Attributes:
        path: its folder.
        config: empty where it is not recorded.
        predictions: of its images.
        leakage: how well its features tell sources apart; None where that could not be measured.
        leakage_known: whether it was tried; False for a run that was evaluated by an older version.
    """

    path: Path
    config: Mapping[str, Any]
    predictions: Predictions
    leakage: Leakage | None = None
    leakage_known: bool = True


@dataclass(frozen=True)
class ComparedRun:
    """A run, the group that it belongs to if any, and what it reaches on each class that it predicts."""

    name: str
    group: str | None
    seed: int | None
    predictions: Predictions
    classes: Mapping[str, ComparedClass]


@dataclass(frozen=True)
class PairTest:
    """Two runs on one class; the difference is first minus second."""

    name: str
    first: str
    second: str
    test: PairedTest | None
    reason: str  # why there is no test, "" where there is one
    holm: float | None = None  # p, corrected over all tests of the kind


@dataclass(frozen=True)
class Group:
    """One configuration trained with several seeds."""

    name: str
    runs: tuple[str, ...]
    aurocs: Mapping[str, tuple[float, ...]]  # a class: those of the runs where it is defined

    def mean(self, name: str) -> float | None:
        """The mean AUROC of a class, None where no run has one."""
        values = self.aurocs[name]
        return float(np.mean(values)) if values else None

    def deviation(self, name: str) -> float | None:
        """The standard deviation over runs (n - 1), None for fewer than two."""
        values = self.aurocs[name]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True)
class GroupTest:
    """Two groups on one class; the difference is first minus second."""

    name: str
    first: str
    second: str
    difference: float | None
    student: float | None  # p; None with fewer than two runs a side, or without any spread
    welch: float | None
    holm: float | None = None  # Welch's, corrected over all tests of the kind


@dataclass(frozen=True)
class RunsCompared:
    """All that is compared."""

    classes: tuple[str, ...]
    runs: tuple[ComparedRun, ...]
    pairs: tuple[PairTest, ...]
    groups: tuple[Group, ...]
    group_tests: tuple[GroupTest, ...]
    subgroups: tuple[ComparedValue, ...] = ()
    calls: tuple[CallsTest, ...] = ()  # of detections, whose rows are patients
    within: Mapping[str, Within] = field(default_factory=dict)  # classes that are compared within sources
    unmeasured: tuple[
        tuple[str, str], ...
    ] = ()  # (run, class tied to the source) of leakage that was never measured
    noun: str = "image"  # what the figures count: an image, or of detections a patient


def compare_runs(
    runs: Sequence[TestedRun], groups: Mapping[str, Sequence[TestedRun]] | None = None
) -> RunsCompared:
    """Return runs compared with each other.

    Args:
        runs: those outside a group. Those whose configuration differs in nothing but train.seed become groups.
        groups: more runs, by the name of their group.

    Raises:
        LabelAssembleError: fewer than two runs, a run twice, a group without a run, or no class in common.
    """
    given = groups or {}
    every = [*runs, *(run for members in given.values() for run in members)]
    _check_distinct([run.path for run in every], given)
    known = [name for run in every for name in run.predictions.classes]
    shared = tuple(name for name in dict.fromkeys(known) if known.count(name) > 1)
    if not shared:
        raise LabelAssembleError("the runs have no class in common, so there is nothing to compare")
    names = _names([run.path for run in every])
    of_group = [*_recognised([run.config for run in runs], names)]
    of_group += [group for group, members in given.items() for _ in members]
    measured = [
        {c: measure(run.predictions, c) for c in shared if c in run.predictions.classes} for run in every
    ]
    leaks = dict(zip(names, [run.leakage for run in every], strict=True))
    within = _within(shared, dict(zip(names, measured, strict=True)), leaks)
    compared = tuple(
        ComparedRun(
            name,
            group,
            _seed(run.config),
            run.predictions,
            {c: put_within(r, within[c].reason) if c in within else r for c, r in own.items()},
        )
        for name, group, run, own in zip(names, of_group, every, measured, strict=True)
    )
    noun = "patient" if all(run.config.get("volumes") is not None for run in every) else "image"
    pairs = [
        _pair_test(name, first, second, within.get(name), noun)
        for name in shared
        for first, second in combinations([run for run in compared if name in run.classes], 2)
        if _worth_testing(first, second)
    ]
    corrected = holm([None if pair.test is None else pair.test.p for pair in pairs])
    found = _groups(compared, shared)
    tests = [
        _group_test(name, first, second)
        for first, second in combinations(found, 2)
        for name in first.aurocs
        if first.aurocs[name] and second.aurocs[name]
    ]
    corrected_tests = holm([test.welch for test in tests])
    by_name = {run.name: run for run in compared}
    subgroups = compare_subgroups(
        {run.name: run.predictions for run in compared},
        shared,
        age_bands_of(every[0].config),
        worth_testing=lambda first, second: _worth_testing(by_name[first], by_name[second]),
    )
    return RunsCompared(
        classes=shared,
        runs=compared,
        pairs=tuple(replace(pair, holm=p) for pair, p in zip(pairs, corrected, strict=True)),
        groups=tuple(found),
        group_tests=tuple(replace(test, holm=p) for test, p in zip(tests, corrected_tests, strict=True)),
        subgroups=subgroups,
        calls=_calls(pairs, dict(zip(names, every, strict=True))),
        within=within,
        noun=noun,
        unmeasured=tuple(
            (name, c)
            for name, run, own in zip(names, every, measured, strict=True)
            for c, result in own.items()
            if not run.leakage_known and c not in within and tied_to_source(result)
        ),
    )


def _within(
    classes: Sequence[str],
    measured: Mapping[str, Mapping[str, ComparedClass]],
    leaks: Mapping[str, Leakage | None],
) -> dict[str, Within]:
    """Return the classes that are compared within sources."""
    found = {
        name: compared_within({run: (own[name], leaks[run]) for run, own in measured.items() if name in own})
        for name in classes
    }
    return {name: own for name, own in found.items() if own is not None}


def _calls(pairs: Sequence[PairTest], runs: Mapping[str, TestedRun]) -> tuple[CallsTest, ...]:
    """Return the tests of sensitivity and specificity between detections that were tested on the same patients."""
    found = [
        test
        for pair in pairs
        if pair.test is not None
        and all(runs[name].config.get("volumes") is not None for name in (pair.first, pair.second))
        for test in paired_calls(
            pair.name,
            (pair.first, runs[pair.first].predictions),
            (pair.second, runs[pair.second].predictions),
        )
    ]
    corrected = holm([test.counts.p for test in found])
    return tuple(replace(test, holm=p) for test, p in zip(found, corrected, strict=True))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return p-values after Holm's step-down correction, in the same order; None stays None and does not count."""
    made = [(p, index) for index, p in enumerate(values) if p is not None]
    result: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, index) in enumerate(sorted(made)):
        largest = max(largest, min(1.0, (len(made) - rank) * p))
        result[index] = largest
    return result


def _check_distinct(paths: Sequence[Path], groups: Mapping[str, Sequence[TestedRun]]) -> None:
    if len(paths) < 2:
        raise LabelAssembleError(f"comparing takes two runs at least, got {len(paths)}")
    for name, members in groups.items():
        if not members:
            raise LabelAssembleError(f"the group '{name}' names no run")
    resolved = [path.resolve() for path in paths]
    for index, path in enumerate(resolved):
        if path in resolved[:index]:
            raise LabelAssembleError(f"the run {paths[index]} is given twice")


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(len(part) for part in parts) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _seed(config: Mapping[str, Any]) -> int | None:
    train = config.get("train")
    seed = train.get("seed") if isinstance(train, Mapping) else None
    return seed if isinstance(seed, int) else None


def _recognised(configs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str | None]:
    """Return the group of each run whose configuration is another one's but for the seed."""
    bare = [_without_seed(config) for config in configs]
    groups: list[str | None] = []
    for config in bare:
        same = [index for index, other in enumerate(bare) if config and other == config]
        more = len(same) - 1
        groups.append(f"{names[same[0]]} and {more} more seed{'s' * (more > 1)}" if more > 0 else None)
    return groups


def _without_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(config)
    if isinstance(kept.get("train"), Mapping):
        kept["train"] = {key: value for key, value in kept["train"].items() if key != "seed"}
    return kept


def _worth_testing(first: ComparedRun, second: ComparedRun) -> bool:
    if first.group is None or second.group is None:
        return True
    return first.group != second.group and first.seed == second.seed


def _pair_test(
    name: str, first: ComparedRun, second: ComparedRun, within: Within | None, noun: str
) -> PairTest:
    found = compare(first.predictions, second.predictions, name, within=within, noun=noun)
    return PairTest(name, first.name, second.name, found.test, found.reason)


def _groups(runs: Sequence[ComparedRun], classes: Sequence[str]) -> list[Group]:
    groups = []
    for name in dict.fromkeys(run.group for run in runs if run.group is not None):
        members = [run for run in runs if run.group == name]
        aurocs = {
            c: tuple(
                value
                for run in members
                if c in run.classes and (value := run.classes[c].first.auroc) is not None
            )
            for c in classes
        }
        everywhere = [
            c
            for c in classes
            if all(c in run.classes and run.classes[c].first.auroc is not None for run in runs)
        ]
        if len(everywhere) > 1:
            of_runs = [[run.classes[c].first.auroc or 0.0 for c in everywhere] for run in members]
            aurocs[MEAN] = tuple(float(np.mean(values)) for values in of_runs)
        groups.append(Group(name, tuple(run.name for run in members), aurocs))
    return groups


def _group_test(name: str, first: Group, second: Group) -> GroupTest:
    left, right = first.aurocs[name], second.aurocs[name]
    difference = float(np.mean(left) - np.mean(right))
    if min(len(left), len(right)) < 2 or np.ptp(left) + np.ptp(right) == 0:
        return GroupTest(name, first.name, second.name, difference, None, None)
    student, welch = (float(stats.ttest_ind(left, right, equal_var=equal).pvalue) for equal in (True, False))
    return GroupTest(name, first.name, second.name, difference, student, welch)
