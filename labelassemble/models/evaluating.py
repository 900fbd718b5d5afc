"""How a network is run where its answers are counted."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import torch
from torch import nn
from torch.backends import cudnn

_lock = Lock()
_users = 0  # contexts in which convolutions compute in all of float32's bits, of all threads
_put_back = ExitStack()  # what the last of them does


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, without gradients and in all of float32's bits, and put back what was before.

    Without it convolutions on a GPU keep 10 of a float32's 23 bits (TF32): its probabilities then differ by 1e-4 from
    those of an exported model, and from themselves with other numbers of images a batch.
    """
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.inference_mode(), _all_bits():
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _all_bits() -> Iterator[None]:
    """Within this context convolutions on a GPU compute in all of float32's bits, in every thread."""
    global _users
    with _lock:
        if _users == 0:
            _put_back.enter_context(_without_tf32())
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _put_back.close()


@contextmanager
def _without_tf32() -> Iterator[None]:
    try:
        before = cudnn.allow_tf32
    except RuntimeError:  # `fp32_precision` was set of one kind of layer, and torch refuses to read this name
        names: Any = cudnn
        kinds = [kind for kind in (names.conv, names.rnn) if kind.fp32_precision == "tf32"]
        for kind in kinds:
            kind.fp32_precision = "ieee"
        try:
            yield
        finally:
            for kind in kinds:
                kind.fp32_precision = "tf32"
        return
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before
