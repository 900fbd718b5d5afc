"""Trainings side by side, in processes of their own."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Generic, TypeVar

import torch

from labelassemble._files import make_folder
from labelassemble.errors import LabelAssembleError
from labelassemble.training.interrupt import StopRequest, TrainingInterrupted

_LOOK_EVERY = 0.2  # seconds between looks at a stop that was asked for
# Libraries read these when they are loaded, in the process that is forked: those of the first call hold for later ones.
# Without, NumPy's and SciPy's BLAS would take all cores in every process.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# What a training imports, seconds of work, is imported once and not in every process; the last, by the first step of an
# optimizer.
_IMPORTED = ["labelassemble.experiments.runner", "torch._dynamo"]

T = TypeVar("T")


@dataclass(frozen=True)
class Killed(Generic[T]):
    """A task whose process was killed, for its memory perhaps."""

    task: Callable[[], T]


def side_by_side(
    tasks: Iterator[Callable[[], T]],
    *,
    workers: int,
    threads: int,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[T | Killed[T]]:
    """Run tasks in processes and yield their results as they end; a task is taken when a worker is free for it.

    A task whose process is killed is yielded as such, and the others go on. On Ctrl-C, or when one task fails, all
    trainings in progress leave a checkpoint and end.

    Args:
        tasks: what to do; each can be pickled.
        workers: processes.
        threads: of torch and of BLAS, in each of them.
        waiting: called several times a second.

    Raises:
        KeyboardInterrupt: on Ctrl-C.
        LabelAssembleError: what a task raised.
    """
    with StopRequest() as stop:
        free = [_Worker(threads) for _ in range(workers)]
        busy: dict[Future[T | None], tuple[_Worker, Callable[[], T]]] = {}
        try:
            while True:
                while free and (another := next(tasks, None)) is not None:
                    worker = free.pop()
                    try:
                        future = worker.submit(another)
                    except BrokenProcessPool:  # killed while it had nothing to do
                        worker = _Worker(threads)
                        future = worker.submit(another)
                    busy[future] = worker, another
                if not busy:
                    return
                for future in wait(busy, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED).done:
                    worker, task = busy.pop(future)
                    try:
                        answer: T | Killed[T] | None = future.result()
                    except BrokenProcessPool:
                        worker = _Worker(threads)
                        answer = Killed(task)
                    free.append(worker)
                    if answer is not None:
                        yield answer
                if stop.requested:
                    raise KeyboardInterrupt
                waiting()
        finally:
            for worker, _ in busy.values():
                worker.interrupt()
            for worker in (*free, *(worker for worker, _ in busy.values())):
                worker.join()


@contextmanager
def log_in(file: Path) -> Iterator[None]:
    """Write what the training logs to a file of its own: the warnings of many jobs would drown the progress."""
    logger, handler = (
        logging.getLogger("labelassemble"),
        logging.FileHandler(file, delay=True, encoding="utf-8"),
    )
    make_folder(file.parent)
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(handler)
        handler.close()


class _Worker:
    """A pool of one process, so that one that is killed breaks no pool but its own."""

    def __init__(self, threads: int) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(_IMPORTED)
        self._pool = ProcessPoolExecutor(1, context, _begin, (threads,))
        with _in_environment(dict.fromkeys(_THREADS, str(threads))):
            self._pid = self._pool.submit(os.getpid)  # which starts the process

    def submit(self, task: Callable[[], T]) -> Future[T | None]:
        return self._pool.submit(_do, task)

    def interrupt(self) -> None:
        """Let a training end with a checkpoint."""
        with suppress(BrokenProcessPool, ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGTERM)

    def join(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _in_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which processes that are started then have, and take them back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _do(task: Callable[[], T]) -> T | None:
    """Return what a task comes to; None for a training that was interrupted, whose checkpoint is written."""
    try:
        return task()
    except TrainingInterrupted:
        parent = parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)  # a pool's process would wait for its next task for ever
        return None
    except LabelAssembleError as error:  # not every subclass can be pickled
        raise LabelAssembleError(str(error)) from None


def _begin(threads: int) -> None:
    os.setsid()  # a Ctrl-C of the terminal reaches the parent alone, which ends its workers
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process, in training with a checkpoint, when the one that started it is no more."""
    if (parent := parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
