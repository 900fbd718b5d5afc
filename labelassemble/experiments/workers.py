"""Jobs of an experiment, one after the other in this process or side by side in processes of their own."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch
from rich.console import Console

from labelassemble.errors import LabelAssembleError
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
        LabelAssembleError: a loss that is not finite, a result that cannot be written, a worker that was killed.
    """
    if workers == 1:
        for task in tasks:
            yield _train(task)
        return
    with StopRequest() as stop:
        threads = max(1, (os.cpu_count() or 1) // workers)
        every = [_Worker(threads) for _ in range(workers)]
        idle, busy = list(every), dict[Connection, _Worker]()
        try:
            while True:
                while idle and (another := next(tasks, None)) is not None:
                    worker = idle.pop()
                    worker.connection.send(another)
                    busy[worker.connection] = worker
                if not busy:
                    return
                for connection in wait(list(busy), timeout=_LOOK_EVERY):
                    assert isinstance(connection, Connection)
                    finished = busy[connection].answer()
                    idle.append(busy.pop(connection))
                    if finished is not None:
                        yield finished
                if stop.requested:
                    raise KeyboardInterrupt
        finally:
            for worker in busy.values():
                worker.process.terminate()
            for worker in every:
                worker.connection.close()
                worker.process.join()


class _Worker:
    """A process that trains one task after the other, each sent to it through a pipe of its own.

    No queue is shared (as a ProcessPoolExecutor's is): a process that ends while it holds the lock of one would leave
    the others waiting for ever. It ends when its connection is closed, and on SIGTERM, in training with a checkpoint.
    """

    def __init__(self, threads: int) -> None:
        processes = multiprocessing.get_context("spawn")
        self.connection, other = processes.Pipe()
        self.process = processes.Process(target=_work, args=(other, threads))
        self.process.start()
        other.close()

    def answer(self) -> Finished | None:
        """Return what it has finished; None for a job that was interrupted.

        Raises:
            LabelAssembleError: what the job raised, or that the process is gone.
        """
        try:
            answer: Finished | LabelAssembleError | None = self.connection.recv()
        except EOFError:
            self.process.join()
            raise LabelAssembleError(
                f"a worker ended within its job (exit status {self.process.exitcode}; killed for its memory?): "
                "the same command goes on, with less --workers if need be"
            ) from None
        if isinstance(answer, LabelAssembleError):
            raise answer
        return answer


def _work(connection: Connection, threads: int) -> None:
    """Train what comes through the connection, until it is closed."""
    os.setsid()  # a Ctrl-C of the terminal reaches the parent alone, which ends its workers
    torch.set_num_threads(threads)
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionResetError):  # the latter where an answer was left unread
            return
        answer: Finished | LabelAssembleError | None = None
        try:
            answer = _train(task)
        except TrainingInterrupted:  # its checkpoint is written
            pass
        except LabelAssembleError as error:
            answer = error
        try:
            connection.send(answer)
        except BrokenPipeError:  # the parent is gone
            return


def _end_without(parent: int) -> None:
    """End this process, in training with a checkpoint, when its parent is no more."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


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
