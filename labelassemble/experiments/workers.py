"""Jobs of an experiment, one after the other in this process or side by side in processes of their own."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
from rich.console import Console

from labelassemble.experiments.dealing import deal
from labelassemble.experiments.jobs import Job, JobResult, Results
from labelassemble.experiments.settings import Part
from labelassemble.experiments.stack import Stack
from labelassemble.experiments.train_job import train_job
from labelassemble.training.interrupt import StopRequest, TrainingInterrupted

_LOOK_EVERY = 0.2  # seconds between looks at a stop that was asked for


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
        LabelAssembleError: a loss that is not finite, a result that cannot be written.
    """
    if workers == 1:
        for task in tasks:
            yield _train(task)
        return
    processes = multiprocessing.get_context("spawn")
    ending = processes.Event()
    threads = max(1, (os.cpu_count() or 1) // workers)
    pool = ProcessPoolExecutor(workers, processes, initializer=_begin, initargs=(ending, threads))
    with StopRequest() as stop, pool:
        try:
            pending: set[Future[Finished | None]] = set()
            while True:
                while len(pending) < workers and (another := next(tasks, None)) is not None:
                    pending.add(pool.submit(_train_unless_interrupted, another))
                if not pending:
                    return
                done, pending = wait(pending, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
                for future in done:
                    finished = future.result()
                    if finished is not None:
                        yield finished
                if stop.requested:
                    raise KeyboardInterrupt
        except BaseException:
            ending.set()
            raise


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
    with _log_in(task.run / "log.txt"):
        result = train_job(job, task.stack, dealt, task.run, console=Console(quiet=True))
    Results(task.results).save(job, result)
    return Finished(job, result, time.monotonic() - started)


@contextmanager
def _log_in(file: Path) -> Iterator[None]:
    """Write what the training logs to a file of its own: the warnings of many jobs would drown the progress."""
    logger, handler = (
        logging.getLogger("labelassemble"),
        logging.FileHandler(file, delay=True, encoding="utf-8"),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(handler)
        handler.close()


def _train_unless_interrupted(task: Task) -> Finished | None:
    try:
        return _train(task)
    except TrainingInterrupted:  # its checkpoint is written
        return None


def _begin(ending: Event, threads: int) -> None:
    """Prepare a worker: it ends when `ending` is set, with a checkpoint if it trains, and when its parent is gone."""
    os.setsid()  # a Ctrl-C of the terminal reaches the parent alone, which sets `ending`
    torch.set_num_threads(threads)
    parent = os.getppid()

    def watch() -> None:
        while not ending.wait(1.0):
            if os.getppid() != parent:
                os._exit(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
