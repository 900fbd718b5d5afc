"""Several processes that train one network, as torchrun starts them, or one process alone.

Every process holds the whole network and takes its part of each batch. What one must know of the others travels over
gloo on the CPU (counts, faults, requests to stop), gradients over NCCL where there are GPUs, so that nothing waits for
a GPU just to agree on a step.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from labelassemble.errors import LabelAssembleError

T = TypeVar("T")

# One process may read or hash for long while the others wait; one that is gone is noticed by its closed connection.
_PATIENCE = timedelta(days=7)

# The processes that this one has left last. Whoever drops the last reference to them joins gloo's threads while it
# holds Python's lock, for which such a thread may be waiting to let its last tensor go: both would wait for ever.
_left: list[object] = []


class OtherProcessFailed(Exception):
    """Another process of this training met an error and reports it; this one ends silently."""


@dataclass(frozen=True)
class Processes:
    """The processes of a training, and which of them this is. By default there is this one alone.

    Attributes:
        rank: which one this is, from 0.
        count: how many there are.
        local_rank: which one this is on its machine, and so its GPU.
        local_count: how many there are on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of `values` over the processes, in float64; all must call it."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        with lost_process_is_an_error():
            dist.all_reduce(tensor)
        return tensor.tolist()

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is set in any process; all must call it."""
        return self.sum([float(flag)])[0] > 0

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, by rank; all must call it."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        with lost_process_is_an_error():
            dist.all_gather_object(found, value)
        return found

    def together(self, do: Callable[[], T]) -> T:
        """Return ``do()``; all must call it, and where it fails in one process it fails in all.

        Raises:
            LabelAssembleError: in the first process in which `do` raised it.
            OtherProcessFailed: in the others.
        """
        if self.count == 1:
            return do()
        try:
            result, error = do(), None
        except LabelAssembleError as caught:
            error = caught
        self.raise_first(error)
        return result

    def raise_first(self, error: LabelAssembleError | None) -> None:
        """Raise where any process gives an error: it in the first of them, OtherProcessFailed in the others."""
        failed = [rank for rank, has in enumerate(self.gather(error is not None)) if has]
        if failed and failed[0] == self.rank and error is not None:
            raise error
        if failed:
            raise OtherProcessFailed

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what ``make()`` gives in the first process; all must call it, and where it fails it fails in all."""
        made = self.together(lambda: [make()] if self.first else [])
        if self.count == 1:
            return made[0]
        held: list[Any] = made or [None]
        with lost_process_is_an_error():
            dist.broadcast_object_list(held, src=0)
        return held[0]  # type: ignore[no-any-return]


SINGLE_PROCESS = Processes()


def named_by_environment() -> Processes:
    """Return which process RANK and WORLD_SIZE say this is, as torchrun sets them, without joining the others.

    Raises:
        LabelAssembleError: one of them is missing or wrong.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" and os.environ.get("RANK", "0") == "0":
        return SINGLE_PROCESS
    given = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
    local = [os.environ.get("LOCAL_RANK", "0"), os.environ.get("LOCAL_WORLD_SIZE", "1")]
    if all(text.isascii() and text.isdigit() for text in (*given, *local)):
        rank, count, local_rank, local_count = map(int, (*given, *local))
        if rank < count:
            return Processes(rank, count, local_rank, local_count)
    raise LabelAssembleError(
        f"RANK must be a number below WORLD_SIZE, as torchrun sets them, got '{given[0]}' and '{given[1]}'"
    )


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started this one with, and leave them at the end; without torchrun, be alone.

    Raises:
        LabelAssembleError: the variables that torchrun sets are there in part or wrong, or the others are not found.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE_PROCESS
        return
    try:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        rank, count, local, local_count = (int(os.environ[name]) for name in names)
        if torch.cuda.is_available() and local < torch.cuda.device_count():
            torch.cuda.set_device(local)
            dist.init_process_group("cpu:gloo,cuda:nccl", timeout=_PATIENCE)
        else:
            dist.init_process_group("gloo", timeout=_PATIENCE)
    except (KeyError, ValueError, RuntimeError) as error:
        raise LabelAssembleError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the other processes are not found ({error}): "
            "start them with torchrun"
        ) from error
    try:
        yield Processes(rank, count, local, local_count)
    finally:
        _left[:] = [dist.group.WORLD]
        dist.destroy_process_group()


@contextmanager
def lost_process_is_an_error(*, several: bool = True) -> Iterator[None]:
    """Turn the failure of an exchange with another process, where there are several, into a sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not several:
            raise
        raise LabelAssembleError(
            "another process is gone; what it or the system wrote last says why. Once that is mended, go on: a "
            "training with --resume, an evaluation by the same command"
        ) from error


def synchronise_batch_norm(net: nn.Module, device: torch.device) -> nn.Module:
    """Return the network with every BatchNorm taking its statistics over all processes; names and values stay."""
    # Imported here: `torch.compiler.disable` in it imports torch's compiler, which takes seconds.
    from labelassemble.training.batch_norm import synchronised

    return synchronised(net, device)


def data_parallel(net: nn.Module) -> DistributedDataParallel:
    """Return the network with its gradients averaged over the processes while they are computed.

    `find_unused_parameters` counts a parameter on which a process's images do not depend as zero there. It also keeps
    the buckets of gradients as they are, so that a resumed training adds up in the same order; torch says once on
    standard error that every parameter is used.
    """
    with warnings.catch_warnings():
        # The new name of `broadcast_buffers` is unknown to older versions of torch.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(net, broadcast_buffers=False, find_unused_parameters=True)
