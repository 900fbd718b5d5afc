"""Class by class: mean AUCs over seeds and tests of their differences, as CSV and Markdown."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from labelassemble.experiments.markdown import markdown_table
from labelassemble.experiments.settings import Comparison, Test
from labelassemble.experiments.summary import Difference, Done, MeanInterval, mean_interval, t_test, to_csv

Place = tuple[str, int | str]  # a setting and a size


@dataclass(frozen=True)
class ClassRow:
    """An arm's AUC of one class at one size of a setting."""

    setting: str
    size: int | str
    arm: str
    name: str
    auc: MeanInterval


@dataclass(frozen=True)
class ClassDifference:
    """Two arms compared in one class at one size of a setting, over the seeds that both have."""

    setting: str
    size: int | str
    name: str
    first: str
    second: str
    seeds: int
    test: Test
    difference: Difference


def class_rows(done: Done) -> list[ClassRow]:
    """Return mean AUCs over seeds of every class, for the runs whose metric is over all classes."""
    grouped: dict[tuple[str, int | str, str, str], list[float]] = {}
    for job, result in done:
        if job.setting.interest is None:
            for name, auc in result.class_auc.items():
                if auc is not None:
                    grouped.setdefault((job.setting.name, job.size, job.arm.name, name), []).append(auc)
    return [ClassRow(*key, mean_interval(values, within=(0.0, 1.0))) for key, values in grouped.items()]


def class_differences(done: Done, comparisons: Sequence[Comparison]) -> list[ClassDifference]:
    """Return the tests of every class, for the runs whose metric is over all classes."""
    by_seed: dict[tuple[Place, str, str], dict[int, float]] = {}
    for job, result in done:
        if job.setting.interest is None:
            for name, auc in result.class_auc.items():
                if auc is not None:
                    key = ((job.setting.name, job.size), job.arm.name, name)
                    by_seed.setdefault(key, {})[job.seed] = auc
    rows = []
    for comparison in comparisons:
        for place, name in dict.fromkeys((place, name) for place, _, name in by_seed):
            first, second = (by_seed.get((place, arm, name), {}) for arm in comparison.arms)
            seeds = sorted(first.keys() & second.keys())
            if not seeds:
                continue
            for test in comparison.tests:
                difference = t_test([first[s] for s in seeds], [second[s] for s in seeds], test)
                rows.append(ClassDifference(*place, name, *comparison.arms, len(seeds), test, difference))
    return rows


def class_files(rows: Sequence[ClassRow], differences: Sequence[ClassDifference]) -> dict[str, str]:
    """Return classes.csv and class_differences.csv by their names; none without rows."""
    if not rows:
        return {}
    return {
        "classes.csv": to_csv(
            ("setting", "size", "arm", "class", "seeds", "auc_mean", "auc_sd", "auc_low", "auc_high"),
            [(r.setting, r.size, r.arm, r.name, *astuple(r.auc)) for r in rows],
        ),
        "class_differences.csv": to_csv(
            (
                "setting",
                "size",
                "class",
                "first",
                "second",
                "seeds",
                "test",
                "difference",
                "low",
                "high",
                "p",
            ),
            [
                (d.setting, d.size, d.name, d.first, d.second, d.seeds, d.test, *d.difference)
                for d in differences
            ],
        ),
    }


def class_sections(
    rows: Sequence[ClassRow], differences: Sequence[ClassDifference], *, test_names: dict[str, str]
) -> list[str]:
    """Return Markdown lines: a table of AUCs and one of differences a setting and size, a row a class.

    Of each comparison the test that it names first is shown; the CSV has all of them.
    """
    lines: list[str] = []
    for place in dict.fromkeys((r.setting, r.size) for r in rows):
        mine = {(r.name, r.arm): r.auc for r in rows if (r.setting, r.size) == place}
        names = list(dict.fromkeys(name for name, _ in mine))
        arms = list(dict.fromkeys(arm for _, arm in mine))
        lines += [
            "",
            f"AUC of each class, {place[0]}, n = {place[1]}: mean over seeds and Student's 95% interval.",
            "",
            *markdown_table(
                ["class", *arms], [[name, *(_auc(mine.get((name, arm))) for arm in arms)] for name in names]
            ),
        ]
        first_test: dict[tuple[str, str], Test] = {}
        for d in differences:
            first_test.setdefault((d.first, d.second), d.test)
        here = [
            d for d in differences if (d.setting, d.size) == place and d.test == first_test[d.first, d.second]
        ]
        for test in dict.fromkeys(d.test for d in here):
            found = {(d.name, d.first, d.second): d.difference for d in here if d.test == test}
            pairs = list(dict.fromkeys((first, second) for _, first, second in found))
            cells = [[name, *(_difference(found.get((name, *pair))) for pair in pairs)] for name in names]
            lines += [
                "",
                f"Differences in AUC of each class, {place[0]}, n = {place[1]}, with p of the {test_names[test]}.",
                "",
                *markdown_table(["class", *(f"{first} - {second}" for first, second in pairs)], cells),
            ]
    return lines


def _auc(auc: MeanInterval | None) -> str:
    if auc is None:
        return ""
    interval = "" if auc.low is None or auc.high is None else f" ({auc.low:.3f} to {auc.high:.3f})"
    return f"{auc.mean:.3f}{interval}"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return f"{difference.value:+.3f}" + ("" if difference.p is None else f" (p {difference.p:.2g})")
