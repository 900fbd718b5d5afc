"""Several processes that train one network, as torchrun starts them, or one process alone.

Every process holds the whole network and takes its part of each batch. What one must know of the others travels over
gloo on the CPU (counts, faults, requests to stop), gradients over NCCL where there are GPUs, so that nothing waits for
a GPU just to agree on a step.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from labelassemble.errors import LabelAssembleError

T = TypeVar("T")

# One process may read or hash for long while the others wait; one that is gone is noticed by its closed connection.
_PATIENCE = timedelta(days=7)


class OtherProcessFailed(Exception):
    """Another process of this training met an error and reports it; this one ends without a word."""


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees them. By default there is this one alone.

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
        with noticing_the_lost():
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
        with noticing_the_lost():
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
        with noticing_the_lost():
            dist.broadcast_object_list(held, src=0)
        return held[0]  # type: ignore[no-any-return]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of the processes, each of which has those of its own part of the loss.

        A sum, not a mean: the parts are divided by the counts of the whole batch already (see `accumulate`).
        """
        if self.count == 1:
            return
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is None:  # nothing in this process's part depends on it
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with noticing_the_lost():
            dist.all_reduce(flat)
        for gradient, total in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view(gradient.shape))

    def same_start(self, net: nn.Module) -> None:
        """Give the network of every process the values of the first one's."""
        if self.count > 1:
            for value in net.state_dict().values():
                with noticing_the_lost():
                    dist.broadcast(value, src=0)


ALONE = Processes()


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started this one with, and leave them at the end; without torchrun, be alone.

    Raises:
        LabelAssembleError: the variables that torchrun sets are there in part or wrong, or the others are not found.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
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
        dist.destroy_process_group()


@contextmanager
def noticing_the_lost() -> Iterator[None]:
    """Turn the failure of an exchange with another process into a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise LabelAssembleError(
            "another process of this training is gone (what it wrote last says why); "
            f"once that is mended, go on with --resume ({str(error).splitlines()[0][:200]})"
        ) from error
