"""Run an experiment: what is missing, as long as the budget lasts, and what all the runs show."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import pandas as pd
import yaml
from rich.console import Console

from labelassemble._files import alone_in, write_text
from labelassemble.config import make_config
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.experiments.case_jobs import DETAIL, CaseTask
from labelassemble.experiments.cases import open_cases
from labelassemble.experiments.dataset import Dataset, NotAtHand, open_dataset
from labelassemble.experiments.detection_tables import detail_frames, write_detection
from labelassemble.experiments.experiment import Experiment, Setting
from labelassemble.experiments.jobs import Job, Task, jobs_of
from labelassemble.experiments.measures import Row
from labelassemble.experiments.processes import Killed, log_in, side_by_side
from labelassemble.experiments.results import Results
from labelassemble.experiments.summary import runs_frame, write_frame
from labelassemble.experiments.tables import write_summary


@dataclass(frozen=True)
class Report:
    """How far an experiment came.

    Attributes:
        runs: one row per finished job, in the order of the jobs.
        missing: jobs without one.
        killed: those of them whose process was killed.
        absent: why each setting was left out whose dataset is not at hand.
        files: what was written.
    """

    runs: pd.DataFrame
    missing: list[Job]
    killed: list[Job]
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
        alike = [median(times) for kind, times in self._seconds.items() if kind[0] == job.setting.name]
        return max(alike, default=None)

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


@dataclass(frozen=True)
class _Finished:
    """A job whose result is saved, and the seconds that it took."""

    job: Job
    row: Row
    seconds: float


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
    """Train every job that has no result yet, then write runs.csv, the tables and the figure of all that is done.

    Args:
        experiment: what to run.
        output: folder; results of earlier calls in it count if they are of the same settings.
        data: the folder with the datasets.
        console: where progress goes.
        seeds: how many, instead of the experiment's.
        budget: minutes, after which no job is started that would not fit; None for no limit.
        only: names of the settings to run; none for all. The figure and the table show these.
        workers: jobs that are trained side by side, each in a process with its share of the cores; 1 trains here.

    Raises:
        LabelAssembleError: no dataset is at hand, a setting that the data cannot serve, a loss that is not finite,
            another process that runs an experiment in the folder.
        TrainingInterrupted, KeyboardInterrupt: on Ctrl-C; what is finished stays, and jobs in progress go on from their
            checkpoints.
    """
    names = [setting.name for setting in experiment.settings]
    for name in only:
        if name not in names:
            raise LabelAssembleError(f"no setting is called '{name}'{did_you_mean(name, names)}")
    settings = [s for s in experiment.settings if not only or s.name in only]
    with alone_in(output, "runs an experiment"):
        datasets, absent = _open(experiment, settings, data, output, console)
        count = range(experiment.seeds if seeds is None else seeds)
        jobs = [
            job
            for setting in settings
            if setting.name in datasets
            for job in jobs_of(experiment, setting, datasets[setting.name], count)
        ]
        jobs.sort(key=lambda job: job.seed)  # seed by seed over all settings
        results = Results(output / "jobs")
        found = {job.name: row for job in jobs if (row := results.load(job)) is not None}
        aside = results.left_aside(jobs)
        said = (
            f"; {aside} results of other runs or settings in {output / 'jobs'} are left aside"
            if aside
            else ""
        )
        _say(console, f"{len(jobs)} runs, {len(found)} done before{said}")
        clock = Clock(None if budget is None else budget * 60, workers)
        waiting = [job for job in jobs if job.name not in found]

        def task(job: Job) -> Callable[[], _Finished]:
            kind = Task if experiment.volumes is None else CaseTask
            made = kind.of(experiment, job, datasets[job.setting.name], output / "work" / job.name)
            return partial(_train, made, output / "jobs")

        tasks = (task(job) for job in waiting if clock.fits(job))
        killed: list[Job] = []
        for finished in _finish(tasks, workers):
            if isinstance(finished, Killed):
                made = finished.task.args[0]  # type: ignore[attr-defined]
                killed.append(made.job)
                _say(console, f"{_shown(made.job)}: its process was killed, for its memory perhaps")
                continue
            job, row = finished.job, finished.row
            found[job.name] = row
            clock.add(job, finished.seconds)
            left = clock.left([job for job in waiting if job.name not in found and job not in killed])
            time_left = "" if left is None else f"  {_minutes(left)} left"
            _say(console, f"{len(found)}/{len(jobs)}  {_shown(job)}  {_result(row)}{time_left}")
        done = [found[job.name] for job in jobs if job.name in found]
        if experiment.volumes is None:
            runs = runs_frame(done)
        else:
            runs = pd.DataFrame([{key: value for key, value in row.items() if key != DETAIL} for row in done])
        missing = [job for job in jobs if job.name not in found]
        files = []
        if len(runs):
            write_frame(runs, output / "runs.csv")
            said = yaml.safe_dump(
                experiment.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True
            )
            write_text(output / "experiment.yaml", said)
            if experiment.volumes is None:
                written = write_summary(experiment, runs, output, absent=absent)
            else:
                written = write_detection(experiment, *detail_frames(done), output, absent=absent)
            files = [output / "runs.csv", *written]
        return Report(runs, missing, killed, absent, files)


def _finish(
    tasks: Iterator[Callable[[], _Finished]], workers: int
) -> Iterator[_Finished | Killed[_Finished]]:
    if workers == 1:
        return (task() for task in tasks)
    return side_by_side(tasks, workers=workers, threads=max(1, (os.cpu_count() or 1) // workers))


def _train(task: Task | CaseTask, results: Path) -> _Finished:
    started = time.monotonic()
    with log_in(task.run / "log.txt"):
        row = task.train()
    Results(results).save(task.job, row)
    return _Finished(task.job, row, time.monotonic() - started)


def missing_text(missing: Sequence[Job]) -> str:
    """Return what was left undone, one line per setting, arm and size."""
    kinds: dict[tuple[str, str, int | str], int] = {}
    for job in missing:
        kinds[job.kind] = kinds.get(job.kind, 0) + 1
    return "\n".join(
        f"  {setting}, {arm}, n = {n}: {count} runs" for (setting, arm, n), count in kinds.items()
    )


def _open(
    experiment: Experiment, settings: Sequence[Setting], data: Path, output: Path, console: Console
) -> tuple[dict[str, Dataset], list[str]]:
    """Return the dataset of each setting, and why settings are left out, a sentence a dataset."""
    datasets: dict[str, Dataset] = {}
    opened: dict[str, Dataset] = {}
    absent: dict[str, str] = {}
    for setting in settings:
        if setting.data in absent:
            continue
        options = experiment.datasets[setting.data]
        values = experiment.config_values(setting) | {"sources": [options.sources[0]]}
        config = make_config(values, base=data)
        views, volumes, cache = config.views, config.volumes, output / "cache"
        key = str((setting.data, views.size, views.channels, volumes))
        try:
            if key not in opened:
                opened[key] = (
                    open_dataset(
                        setting.data,
                        options,
                        data=data,
                        size=views.size,
                        channels=views.channels,
                        cache=cache,
                    )
                    if volumes is None
                    else open_cases(setting.data, options, data=data, volumes=volumes, cache=cache)
                )
        except NotAtHand as error:
            # Without where it was sought: the table may be published.
            absent[setting.data] = f"dataset '{setting.data}' is not at hand: {options.download}"
            _say(console, f"Left out: {error}")
            continue
        datasets[setting.name] = opened[key]
        if setting.classes is not None:
            datasets[setting.name] = _with_classes(opened[key], setting)
    if not datasets:
        raise LabelAssembleError(
            f"none of the experiment's datasets is at hand in {data}: see above, or --data"
        )
    return datasets, list(absent.values())


def _with_classes(dataset: Dataset, setting: Setting) -> Dataset:
    every = dataset.table.classes
    for name in setting.classes or ():
        if name not in every:
            raise LabelAssembleError(
                f"setting '{setting.name}': dataset '{setting.data}' has no class '{name}'{did_you_mean(name, every)}"
            )
    return dataset.select_classes(setting.classes or every)


def _shown(job: Job) -> str:
    other = "" if job.other is None else f" with {job.other}"
    return f"{job.setting.name}, {job.arm.name}{other}, n = {job.size}, seed {job.seed}" + (
        "" if job.fold is None else f", fold {job.fold}"
    )


def _result(row: Row) -> str:
    """Return what a job came to, in words."""
    name, key = ("AUC", "auc") if "auc" in row else ("Dice", "dice")
    value = row.get(key)
    return f"{name} not defined" if value is None else f"{name} {value:.4f}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
