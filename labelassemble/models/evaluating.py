"""How a network is run where its answers are counted."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.backends import cudnn


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, without gradients and in all of float32's bits, and put back what was before.

    Without it convolutions on a GPU keep 10 of a float32's 23 bits (TF32): its probabilities then differ by 1e-4 from
    those of an exported model, and from themselves with other numbers of images a batch.
    """
    was_training = net.training
    net.eval()
    try:
        with (
            torch.inference_mode(),
            cudnn.flags(
                enabled=cudnn.enabled,
                benchmark=cudnn.benchmark,
                benchmark_limit=cudnn.benchmark_limit,
                deterministic=cudnn.deterministic,
                allow_tf32=False,
            ),
        ):
            yield
    finally:
        net.train(was_training)
