"""Run an experiment: what is missing, as long as the budget lasts, and what all the runs show."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.experiments.jobs import Job, JobResult, Results, jobs_of, views_of
from labelassemble.experiments.outcome import write_outcome
from labelassemble.experiments.settings import Experiment, Setting
from labelassemble.experiments.stack import NotAtHand, Stack, open_stack
from labelassemble.experiments.workers import Task, finish


@dataclass(frozen=True)
class Report:
    """How far an experiment came.

    Attributes:
        done: jobs with their results, in the order of the jobs.
        missing: jobs without one.
        absent: why each setting was left out whose dataset is not at hand.
        files: what was written.
    """

    done: list[tuple[Job, JobResult]]
    missing: list[Job]
    absent: list[str]
    files: list[Path]


class Clock:
    """How long jobs take, and whether one still fits.

    Args:
        budget: seconds for all; None for no limit.
        workers: jobs that run side by side.
    """

    def __init__(self, budget: float | None, workers: int = 1) -> None:
        self._budget = budget
        self._workers = workers
        self._started = time.monotonic()
        self._seconds: dict[tuple[str, str, int | str], list[float]] = {}

    def add(self, job: Job, seconds: float) -> None:
        """Record a job's time."""
        self._seconds.setdefault(job.kind, []).append(seconds)

    def expected(self, job: Job) -> float | None:
        """Return the median time of jobs of its kind, else of its setting's longest kind; None if none was done."""
        if job.kind in self._seconds:
            return median(self._seconds[job.kind])
        same = [median(times) for kind, times in self._seconds.items() if kind[0] == job.setting.name]
        every = [median(times) for times in self._seconds.values()]
        return max(same) if same else max(every, default=None)

    def fits(self, job: Job) -> bool:
        """Return whether the job would end within the budget; the first one is tried as long as time is left."""
        if self._budget is None:
            return True
        return time.monotonic() - self._started + (self.expected(job) or 0.0) < self._budget

    def left(self, jobs: Sequence[Job]) -> float | None:
        """Return the seconds that these jobs will take, None where nothing is known."""
        times = [self.expected(job) for job in jobs]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) / self._workers if len(known) == len(times) else None


def run_experiment(
    experiment: Experiment,
    output: Path,
    *,
    data: Path,
    console: Console,
    seeds: int | None = None,
    budget: float | None = None,
    only: Sequence[str] = (),
    workers: int = 1,
) -> Report:
    """Train every job that has no result yet, then write runs.csv, the table and the figure of all that is done.

    Args:
        experiment: what to run.
        output: folder; results of earlier calls in it count if they are of the same settings.
        data: the folder with the datasets.
        console: where progress goes.
        seeds: how many, instead of the experiment's.
        budget: minutes, after which no job is started that would not fit; None for no limit.
        only: names of the settings to run; none for all. The figure and the table show these.
        workers: jobs that are trained side by side.

    Raises:
        LabelAssembleError: no dataset is at hand, or a setting that the data cannot serve.
        TrainingInterrupted: on Ctrl-C; what is finished stays, and the job in hand goes on from its checkpoint.
    """
    names = [setting.name for setting in experiment.settings]
    for name in only:
        if name not in names:
            raise LabelAssembleError(f"no setting is called '{name}'{did_you_mean(name, names)}")
    count = experiment.seeds if seeds is None else seeds
    settings = [s for s in experiment.settings if not only or s.name in only]
    stacks, absent = _open(experiment, settings, data, output, console)
    jobs: list[Job] = []
    by_setting = [
        jobs_of(experiment, setting, stacks[setting.name], range(count))
        for setting in settings
        if setting.name in stacks
    ]
    for seed in range(count):  # seed by seed over all settings
        jobs += [job for of_setting in by_setting for job in of_setting if job.seed == seed]
    results = Results(output / "jobs")
    found = {job.name: result for job in jobs if (result := results.load(job)) is not None}
    aside = results.left_aside(jobs)
    console.print(
        f"{len(jobs)} runs, {len(found)} done before"
        + (
            f"; {aside} results of other runs or settings in {output / 'jobs'} are left aside"
            if aside
            else ""
        ),
        highlight=False,
        soft_wrap=True,
    )
    clock = Clock(None if budget is None else budget * 60, workers)
    waiting = [job for job in jobs if job.name not in found]
    tasks = (
        Task(job, stacks[job.setting.name], experiment.parts, output / "work" / job.name, output / "jobs")
        for job in waiting
        if clock.fits(job)
    )
    for finished in finish(tasks, workers=workers):
        job, result = finished.job, finished.result
        found[job.name] = result
        clock.add(job, finished.seconds)
        auc = "not defined" if result.auc is None else f"{result.auc:.4f}"
        left = clock.left([job for job in waiting if job.name not in found])
        console.print(
            f"{len(found)}/{len(jobs)}  {_shown(job)}  AUC {auc}"
            + ("" if left is None else f"  {_minutes(left)} left"),
            highlight=False,
            soft_wrap=True,
        )
    done = [(job, found[job.name]) for job in jobs if job.name in found]
    missing = [job for job in jobs if job.name not in found]
    files = write_outcome(experiment, done, output, settings=settings, absent=absent) if done else []
    return Report(done, missing, absent, files)


def missing_text(missing: Sequence[Job]) -> str:
    """Return what a budget left undone, a line a setting, arm and size."""
    kinds: dict[tuple[str, str, int | str], int] = {}
    for job in missing:
        kinds[job.kind] = kinds.get(job.kind, 0) + 1
    return "\n".join(
        f"  {setting}, {arm}, n = {n}: {count} runs" for (setting, arm, n), count in kinds.items()
    )


def _open(
    experiment: Experiment, settings: Sequence[Setting], data: Path, output: Path, console: Console
) -> tuple[dict[str, Stack], list[str]]:
    """Return the stack of each setting, and why settings are left out, a sentence a dataset."""
    stacks: dict[str, Stack] = {}
    absent: dict[str, str] = {}
    for setting in settings:
        if setting.data in absent:
            continue
        views = views_of(experiment, setting)
        try:
            stacks[setting.name] = open_stack(
                setting.data,
                experiment.datasets[setting.data],
                data=data,
                size=views.size,
                channels=views.channels,
                cache=output / "cache",
            )
        except NotAtHand as error:
            # Without where it was sought: the table may be published.
            download = experiment.datasets[setting.data].download
            absent[setting.data] = f"dataset '{setting.data}' is not at hand: {download}"
            console.print(f"Left out: {error}", highlight=False, soft_wrap=True, markup=False)
    if not stacks:
        raise LabelAssembleError(
            f"none of the experiment's datasets is at hand in {data}: see above, or --data"
        )
    return stacks, list(absent.values())


def _shown(job: Job) -> str:
    other = "" if job.other is None else f" with {job.other}"
    return f"{job.setting.name}, {job.arm.name}{other}, n = {job.size}, seed {job.seed}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
