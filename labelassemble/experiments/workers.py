"""Jobs of an experiment, one after the other in this process or side by side in processes of their own."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from labelassemble.experiments.dealing import deal
from labelassemble.experiments.jobs import Job, JobResult, Results
from labelassemble.experiments.settings import Part
from labelassemble.experiments.side_by_side import log_in, side_by_side
from labelassemble.experiments.stack import Stack
from labelassemble.experiments.train_job import train_job


@dataclass(frozen=True)
class Task:
    """A job and what it is trained with.

    Attributes:
        job: the job.
        stack: its images.
        parts: all parts of the experiment, which the images are dealt to.
        run: folder of its checkpoints while it trains.
        results: folder that gets its result.
    """

    job: Job
    stack: Stack
    parts: tuple[Part, ...]
    run: Path
    results: Path


@dataclass(frozen=True)
class Finished:
    """A job whose result is saved, and the seconds that it took."""

    job: Job
    result: JobResult
    seconds: float


def finish(tasks: Iterator[Task], *, workers: int) -> Iterator[Finished]:
    """Train and yield jobs as they end; a task is taken from `tasks` when a worker is free for it.

    Args:
        tasks: what to train.
        workers: processes; 1 trains in this one. Each has its share of the cores. On Ctrl-C, or when one job fails,
            all of them leave a checkpoint and end.

    Raises:
        TrainingInterrupted, KeyboardInterrupt: on Ctrl-C.
        LabelAssembleError: a loss that is not finite, a result that cannot be written, a worker that was killed.
    """
    if workers == 1:
        for task in tasks:
            yield _train(task)
        return
    yield from side_by_side(
        (partial(_train, task) for task in tasks),
        workers=workers,
        threads=max(1, (os.cpu_count() or 1) // workers),
        on_kill="the same command goes on, with less --workers if need be",
    )


def _train(task: Task) -> Finished:
    started = time.monotonic()
    job = task.job
    dealt = deal(
        task.stack,
        task.parts,
        chosen=job.arm.parts,
        interest=job.setting.interest,
        other=job.other,
        size=job.size,
        seed=job.seed,
    )
    with log_in(task.run / "log.txt"):
        result = train_job(job, task.stack, dealt, task.run, console=Console(quiet=True))
    Results(task.results).save(job, result)
    return Finished(job, result, time.monotonic() - started)
