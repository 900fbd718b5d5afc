"""Trainings side by side, in processes of their own."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.training.interrupt import StopRequest, TrainingInterrupted

_LOOK_EVERY = 0.2  # seconds between looks at a stop that was asked for
# Libraries read these when they are loaded. Without, NumPy's and SciPy's BLAS would take all cores in every process.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

ResultT = TypeVar("ResultT")


def side_by_side(
    tasks: Iterator[Callable[[], ResultT]],
    *,
    workers: int,
    threads: int,
    on_kill: str,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[ResultT]:
    """Run tasks in processes and yield their results as they end; a task is taken when a worker is free for it.

    On Ctrl-C, or when one task fails, all trainings in progress leave a checkpoint and end.

    Args:
        tasks: what to do; each can be pickled.
        workers: processes.
        threads: of torch and of BLAS, in each of them.
        on_kill: what to say where a process was killed.
        waiting: called several times a second.

    Raises:
        KeyboardInterrupt: on Ctrl-C.
        LabelAssembleError: what a task raised, or that a process was killed.
    """
    with StopRequest() as stop:
        every = [_Worker(threads, on_kill) for _ in range(workers)]
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
                    answer = busy[connection].answer()
                    idle.append(busy.pop(connection))
                    if answer is not None:
                        yield answer
                if stop.requested:
                    raise KeyboardInterrupt
                waiting()
        finally:
            for worker in busy.values():
                worker.process.terminate()
            for worker in every:
                worker.connection.close()
                worker.process.join()


@contextmanager
def log_in(file: Path) -> Iterator[None]:
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


class _Worker:
    """A process that does one task after the other, each sent to it through a pipe of its own.

    No queue is shared (as a ProcessPoolExecutor's is): a process that ends while it holds the lock of one would leave
    the others waiting for ever. It ends when its connection is closed, and on SIGTERM, in training with a checkpoint.
    """

    def __init__(self, threads: int, on_kill: str) -> None:
        self._on_kill = on_kill
        processes = multiprocessing.get_context("spawn")
        self.connection, other = processes.Pipe()
        self.process = processes.Process(target=_work, args=(other, threads))
        with _in_environment(dict.fromkeys(_THREADS, str(threads))):
            self.process.start()
        other.close()

    def answer(self) -> Any:
        """Return the result of its task; None for a training that was interrupted.

        Raises:
            LabelAssembleError: what the task raised, or that the process is gone.
        """
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            raise LabelAssembleError(
                f"a worker ended within its job (exit status {self.process.exitcode}; killed for its memory?): "
                f"{self._on_kill}"
            ) from None
        if isinstance(answer, LabelAssembleError):
            raise answer
        return answer


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


def _work(connection: Connection, threads: int) -> None:
    """Do what comes through the connection, until it is closed."""
    os.setsid()  # a Ctrl-C of the terminal reaches the parent alone, which ends its workers
    torch.set_num_threads(threads)
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionResetError):  # the latter where an answer was left unread
            return
        answer = None
        try:
            answer = task()
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
