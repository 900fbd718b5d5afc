"""Random numbers of torch that come from a seed of one's own, in this thread alone."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from labelassemble.errors import LabelAssembleError


def image_seed(*numbers: int) -> int:
    """Return the seed of a list for one view of one image, from the numbers that name it."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class Seeded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context what this thread draws from torch comes from a generator of its own.

    kornia draws from torch's global generator, which the training draws from in another thread. Where it is entered
    again, it goes on with its generator.

    Args:
        seed: of the generator.

    Attributes:
        draws: operators that drew so far.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}
        self.draws = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        self.draws += 1
        device = torch.device(kwargs.get("device") or next((x.device for x in args if _is_tensor(x)), "cpu"))
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return _with_generator(func)(*args, **{**kwargs, "generator": self._generators[device]})


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


@cache
def _with_generator(func: Any) -> Any:
    """Return the overload of an operator that takes a generator."""
    wanted = [argument.name for argument in func._schema.arguments]
    if "generator" in wanted:
        return func
    packet = func.overloadpacket
    for name in packet.overloads():
        other = getattr(packet, name)
        names = [argument.name for argument in other._schema.arguments]
        if "generator" in names and [name for name in names if name != "generator"] == wanted:
            return other
    raise LabelAssembleError(f"torch's {func} takes no generator, so that its values have no seed")
