"""Threads for image work, in which torch's operators run on one core each."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

K = TypeVar("K")
T = TypeVar("T")

_AHEAD = 2  # batches made ahead of the one in use


def image_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Return a pool of `count` threads in which torch does not start further ones.

    Images are worked on side by side; operators that divide one small image among all cores as well would spend their
    time waiting for each other (measured on two busy cores: a resize took 22 ms instead of 2).
    """
    others = torch.get_num_threads()
    ready = threading.Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes the common number over when it first asks, so ask before changing it
        torch.set_num_threads(1)  # of this thread, and of those that have not asked yet
        ready.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix=name, initializer=begin)
    for _ in range(count):
        pool.submit(_nothing)
    ready.wait()
    torch.set_num_threads(others)  # of this thread, as it was, and of those that have not asked yet
    return pool


def made_ahead(make: Callable[[K], T], keys: Iterable[K], name: str = "views") -> Iterator[T]:
    """Yield ``make(key)`` for each key in order, made by one background thread a little ahead."""
    with image_threads(1, name) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for key in keys:
                waiting.append(pool.submit(make, key))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _nothing() -> None:
    pass
