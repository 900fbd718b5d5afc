"""What the demo prints: what it does, how far it is, what each part brings."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table as RichTable

from labelassemble.config import load_config
from labelassemble.experiments.demo_arms import ARMS, INTEREST, Score, seed_folder
from labelassemble.experiments.digits import ARCHIVE_IMAGES
from labelassemble.report.format import signed
from labelassemble.report.record import Gain, OverSeeds

SEEDS: Final = 4
"""Repetitions that end within two minutes on two busy cores."""
_RESULTS = "benchmarks/paper/RESULTS.md"
_TEN_SEEDS = "benchmarks/results/demo_seeds.csv"


class Display:
    """Trainings done and time left: a bar on a terminal, a line per training everywhere.

    How far a training is it takes from the rows of its metrics.csv, one per epoch.
    """

    def __init__(self, output: Path, seeds: Sequence[int], console: Console) -> None:
        config = load_config(seed_folder(output, seeds[0]) / "demo.yaml")
        self._console = console
        self._warmup = config.loss.warmup_epochs
        self._runs = [seed_folder(output, seed) / arm.name for seed in seeds for arm in ARMS]
        self._total = len(self._runs) * config.train.epochs - len(seeds) * self._warmup
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=self._total, left="")

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def look(self) -> None:
        """Move the bar on a terminal."""
        if self._console.is_terminal:
            done = self._epochs()
            self._progress.update(self._task, completed=done, left=self._left(done))

    def done(self, scores: Sequence[Score], trainings: int) -> None:
        """Say that trainings have ended, so many in all."""
        for score in scores:
            left = f", {self._left(self._epochs())}" if score is scores[-1] else ""
            self._console.print(
                f"seed {score.seed}, {score.arm.title}: AUC {score.auc:.3f} "
                f"({trainings} of {len(self._runs)} trainings done{left})",
                highlight=False,
                soft_wrap=True,
            )

    def _epochs(self) -> int:
        """Return the epochs done by all; the last arm's warm-up is that of the arm before it."""
        done = 0
        for run in self._runs:
            try:
                rows = (run / "metrics.csv").read_text(encoding="utf-8").count("\n") - 1
            except OSError:
                continue
            done += max(0, rows - self._warmup) if run.name == ARMS[-1].name else rows
        return done

    def _left(self, done: int) -> str:
        if not done:
            return ""
        return f"about {(time.monotonic() - self._started) / done * (self._total - done):.0f} s left"


def print_start(seeds: Sequence[int], clinic_images: int, console: Console) -> None:
    with_seeds = f"with {len(seeds)} seeds" if len(seeds) > 1 else f"with seed {seeds[0]}"
    lines = [
        f"A clinic labels the digit eight on {clinic_images} images, {clinic_images // 3} of them eights. Two archives "
        f"label the other digits on {2 * ARCHIVE_IMAGES} images, and never the eight. How well does a network find the "
        f"eight on images that it has not seen? {len(ARMS)} trainings {with_seeds}, all of the same length, each with "
        "one thing more than the one before:",
        *(f"  {arm.title:<17}{arm.about}" for arm in ARMS),
        "",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def print_scores(scores: Sequence[Score], console: Console) -> None:
    """Print the scores of one seed."""
    table = _table(
        f"AUC of the {INTEREST} on held-out images, 95% interval (DeLong)", "training", "AUC", "interval"
    )
    for score in scores:
        table.add_row(score.arm.title, f"{score.auc:.3f}", f"{score.low:.3f} to {score.high:.3f}")
    console.print(table)
    console.print(
        f"With one seed no part's share can be told from chance: --seeds {SEEDS} repeats all of it with other "
        "images.\n"
        f"Where assembling does not help: {_RESULTS}\n",
        highlight=False,
        soft_wrap=True,
    )


def print_over_seeds(over_seeds: OverSeeds, console: Console) -> None:
    table = _table(
        f"AUC of the {INTEREST} on held-out images, mean ± sd over {over_seeds.seeds} seeds",
        "training",
        "AUC",
        "over the row above (95%)",
        "seeds won",
    )
    for row in over_seeds.rows:
        gain = row.over_before
        compared = ("", "") if gain is None else (gain_text(gain), f"{gain.won} of {over_seeds.seeds}")
        table.add_row(row.name, f"{row.mean:.3f} ± {row.deviation:.3f}", *compared)
    console.print(table)
    lines = [*verdict(over_seeds), ""]
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def verdict(over_seeds: OverSeeds) -> list[str]:
    """Return what the figures say, also where something does not help or where it cannot be told from chance."""
    seeds = over_seeds.seeds
    gains = [(row.name, row.over_before) for row in over_seeds.rows if row.over_before is not None]
    whole = over_seeds.rows[-1].over_first
    assert whole is not None
    lines = [
        f"All of it over the clinic alone: {gain_text(whole)}, better with {whole.won} of {seeds} seeds."
    ]
    name, most = max(gains, key=lambda part: part[1].value)
    if most.won == seeds:
        lines[0] += f" Most comes with “{name}”: {signed(most.value)}."
    lines += [
        f"“{name}” makes it worse here: {gain_text(gain)}, better with {gain.won} of {seeds} seeds."
        for name, gain in gains
        if gain.value < 0
    ]
    unsure = [f"“{name}”" for name, gain in gains if _may_be_chance(gain)]
    if unsure:
        lines.append(
            f"With so few seeds chance may explain the difference that {', '.join(unsure)} makes: the interval "
            f"includes 0. Ten seeds: {_TEN_SEEDS}"
        )
    lines.append(f"Where assembling does not help, on chest radiographs for one: {_RESULTS}")
    return lines


def _may_be_chance(gain: Gain) -> bool:
    return gain.interval is None or gain.interval.lower <= 0 <= gain.interval.upper


def gain_text(gain: Gain) -> str:
    """Return a gain with its interval."""
    if gain.interval is None:
        return signed(gain.value)
    return f"{signed(gain.value)} ({signed(gain.interval.lower)} to {signed(gain.interval.upper)})"


def _table(title: str, *columns: str) -> RichTable:
    table = RichTable(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
