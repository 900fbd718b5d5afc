"""What an experiment on masks leaves beside runs.csv: pooled figures, differences and verdicts, and a figure."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from labelassemble._files import write_text
from labelassemble.data.csvfile import or_compressed
from labelassemble.experiments.case_jobs import DETAIL, SUMS
from labelassemble.experiments.detection_plots import draw_detection
from labelassemble.experiments.experiment import Comparison, Experiment, Setting
from labelassemble.experiments.measures import Row
from labelassemble.experiments.pooled import MEAN, Pooled, arm_differences, arm_figures
from labelassemble.experiments.summary import read_frame, write_frame
from labelassemble.experiments.tables import markdown
from labelassemble.processor import processor_name
from labelassemble.version import __version__

SHOWN: Final = {
    "dice": "Dice",
    "hit_rate": "hit rate",
    "alarms": "false alarms a case",
    "froc@0.25": "found at 0.25",
    "froc@1": "found at 1",
    "auroc": "patient AUROC",
}
"""The figures in table.md; the CSV files have them all."""
_COMPARED: Final = ("dice", "hit_rate", "froc@0.25", "froc@1", "auroc")
_HOW: Final = (
    "Figures of all patients together, each tested once a seed by a network of the other folds; the mean over seeds, "
    "with a 95% interval over patients (1,000 resamples, expanded percentiles; the same patients in all arms), which "
    "is left out where it would rest on fewer than 10 patients. Not corrected for their number. Dice: mean "
    "over the cases that show the class. Hit rate: share of the drawn lesions that are found at the threshold; found "
    "at 0.25 and at 1: with so many false alarms a case allowed (FROC). Of several classes: their mean."
)
_ABOUT: Final = ("setting", "arm", "seed", "fold")
_PATIENTS: Final = (*_ABOUT, "patient", "class", "label", "score", *SUMS)
_LESIONS: Final = (*_ABOUT, "patient", "class", "score", "hit")


def detail_frames(rows: Sequence[Row]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the test patients of all jobs, and their predicted lesions that are hit or false alarm, a row each."""
    frames = []
    for key, columns in (("patients", _PATIENTS), ("lesions", _LESIONS)):
        parts = [
            pd.DataFrame(row[DETAIL][key]).assign(**{name: row[name] for name in _ABOUT})
            for row in rows
            if row[DETAIL][key]
        ]
        whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        frames.append(whole.reindex(columns=list(columns)))
    return frames[0], frames[1]


def read_details(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what `write_detection` wrote as patients.csv and lesions.csv, which may end in .gz."""
    files = (or_compressed(folder / f"{name}.csv") for name in ("patients", "lesions"))
    patients, lesions = (read_frame(file, ("setting", "arm", "patient", "class")) for file in files)
    return patients, lesions


def write_detection(
    experiment: Experiment,
    patients: pd.DataFrame,
    lesions: pd.DataFrame,
    output: Path,
    *,
    absent: Sequence[str] = (),
) -> list[Path]:
    """Write patients.csv, lesions.csv, figures.csv, differences.csv, table.md and the figure.

    Args:
        experiment: what was run.
        patients: see `detail_frames`.
        lesions: likewise.
        output: folder for the files.
        absent: why settings are left out, a sentence each.

    Returns:
        The files.
    """
    found, differ, verdicts, counts = _pooled(experiment, patients, lesions)
    files = {"patients": patients, "lesions": lesions, "figures": found, "differences": differ}
    for name, frame in files.items():
        write_frame(frame, output / f"{name}.csv")
    done = patients.groupby(["setting", "arm", "seed", "fold"]).ngroups
    lines = [
        f"# {experiment.title}",
        "",
        f"Paper: {experiment.paper}.",
        "",
        f"{done} trainings and baselines; a seed counts where all its folds are done. Table written on "
        f"{processor_name()}, labelassemble {__version__}, {datetime.now(UTC):%Y-%m-%d}. {_HOW}",
        *_figure_tables(experiment, found, counts),
        *_verdict_table(verdicts),
        *_difference_table(differ),
    ]
    if absent:
        lines += ["", "Not run:", "", *(f"- {sentence}" for sentence in absent)]
    write_text(output / "table.md", "\n".join(lines) + "\n")
    figures = [output / f"figure.{kind}" for kind in ("svg", "png")] if len(found) else []
    for path in figures:
        draw_detection(experiment, found, path)
    return [output / "table.md", *(output / f"{name}.csv" for name in files), *figures]


def _pooled(
    experiment: Experiment, patients: pd.DataFrame, lesions: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Return figures, differences and those to the baselines, and how many patients each setting has."""
    parts: list[list[pd.DataFrame]] = [[], [], []]
    counts: dict[str, int] = {}
    for setting in experiment.settings:
        mine, own = (frame[frame["setting"] == setting.name] for frame in (patients, lesions))
        pooled = Pooled(mine, own, experiment.folds)
        if not pooled.count:
            continue
        counts[setting.name] = pooled.count
        frames = (
            arm_figures(pooled),
            arm_differences(pooled, experiment.comparisons),
            arm_differences(pooled, _against_baselines(experiment, setting)),
        )
        for part, frame in zip(parts, frames, strict=True):
            frame.insert(0, "setting", setting.name)
            if len(frame):
                part.append(frame)
    found, differ, verdicts = (pd.concat(part) if part else pd.DataFrame() for part in parts)
    return found, differ, verdicts, counts


def _against_baselines(experiment: Experiment, setting: Setting) -> list[Comparison]:
    arms = experiment.arms_of(setting)
    networks, baselines = (
        [arm.name for arm in arms if (arm.baseline is None) == network] for network in (True, False)
    )
    return [Comparison(arms=pair) for pair in product(networks, baselines)]


def _figure_tables(experiment: Experiment, found: pd.DataFrame, counts: dict[str, int]) -> Iterator[str]:
    """Yield a table per setting, of each arm and class."""
    for setting in experiment.settings:
        if setting.name not in counts:
            continue
        mine = found[found["setting"] == setting.name]
        shown = experiment.datasets[setting.data].shown or setting.data
        yield from ("", f"## {setting.name} ({shown}, {counts[setting.name]} patients)")
        keys = mine[["arm", "class"]].drop_duplicates().itertuples(index=False, name=None)
        rows = []
        for arm, name in keys:
            of = mine[(mine["arm"] == arm) & (mine["class"] == name)].set_index("figure")
            title = experiment.arm(arm).title or arm
            rows.append((title, name, of["seeds"].max(), *(_cell(of, figure, ".3f") for figure in SHOWN)))
        yield from markdown(("arm", "class", "seeds", *SHOWN.values()), rows)


def _verdict_table(verdicts: pd.DataFrame) -> list[str]:
    """Return by how much each network's patient AUROC is above what each baseline reaches."""
    if not len(verdicts):
        return []
    of = verdicts[verdicts["figure"] == "auroc"]
    baselines = list(dict.fromkeys(of["second"]))
    rows = []
    for (setting, arm, name), mine in of.groupby(["setting", "first", "class"], sort=False):
        if name == MEAN:
            continue
        by = mine.set_index("second")
        sure = by["low"].notna().all() and len(by) == len(baselines)
        above = "no" if (by["low"] <= 0).any() else "yes" if sure else "not known"
        cells = [_cell(by, baseline, "+.3f") for baseline in baselines]
        rows.append((setting, arm, name, *cells, above))
    return [
        "",
        "Patient AUROC beside what can be guessed without a lesion: the network's minus that of a regression on the "
        "border, the histogram or 8x8 pixels alone. Only where it is above all of them may one speak of detection.",
        *markdown(("setting", "arm", "class", *(f"above {name}" for name in baselines), "above all"), rows),
    ]


def _difference_table(differ: pd.DataFrame) -> list[str]:
    if not len(differ):
        return []
    rows = []
    for key, mine in differ.groupby(["setting", "first", "second", "class"], sort=False):
        setting, first, second, name = key
        by = mine.set_index("figure")
        cells = [_cell(by, figure, "+.3f") for figure in _COMPARED]
        rows.append((setting, f"{first} - {second}", name, by["seeds"].max(), *cells))
    return [
        "",
        "Differences, the first arm minus the second. In bold those whose interval does not hold 0.",
        *markdown(
            ("setting", "difference", "class", "seeds", *(SHOWN[figure] for figure in _COMPARED)), rows
        ),
    ]


def _cell(of: pd.DataFrame, key: str, form: str) -> str:
    """Return a value with its interval; a difference that is sure in bold."""
    if key not in of.index:
        return ""
    row: Any = of.loc[key]
    if np.isnan(row["low"]):
        return f"{row['value']:{form}}"
    text = f"{row['value']:{form}}"
    if form.startswith("+") and (row["low"] > 0 or row["high"] < 0):
        text = f"**{text}**"
    return f"{text} ({row['low']:{form}} to {row['high']:{form}})"
