"""The device of the CUDA tests: a GPU, or the CPU on which the CUDA sources run (tests/cuda_on_cpu).

LABELASSEMBLE_CUDA_ON_CPU names the library that tests/cuda_on_cpu builds; its kernels take the place of the CPU's in
this process.
"""

import ctypes
import os
from collections.abc import Callable

import torch

import labelassemble  # noqa: F401  (the ops, before their kernels are exchanged)

_LIBRARY = os.environ.get("LABELASSEMBLE_CUDA_ON_CPU")
DEVICE = "cpu" if _LIBRARY else "cuda"
emulator: ctypes.CDLL | None = None
if _LIBRARY:
    torch.ops.load_library(_LIBRARY)
    emulator = ctypes.CDLL(_LIBRARY)
    emulator.cuda_on_cpu_take_fault.restype = ctypes.c_char_p
    emulator.cuda_on_cpu_launches.restype = ctypes.c_int64
    emulator.cuda_on_cpu_seed.argtypes = [ctypes.c_uint64]
    # New tensors hold NaN, or the largest integer, until something is written.
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True


def is_there() -> bool:
    """Whether CUDA kernels can run."""
    return emulator is not None or torch.cuda.is_available()


def launches() -> int:
    """How many kernels have run in emulation."""
    assert emulator is not None
    return int(emulator.cuda_on_cpu_launches())


def in_a_graph(step: Callable[[], tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """Capture a step in a CUDA graph, replay it, and return what it left."""
    if emulator is None:
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # fails where the host waits for the device
            captured = step()
        graph.replay()
        torch.cuda.synchronize()
        return captured
    emulator.cuda_on_cpu_keep_memory(1)
    emulator.cuda_on_cpu_begin_capture()
    captured = step()
    emulator.cuda_on_cpu_end_capture()
    emulator.cuda_on_cpu_keep_memory(0)
    assert any(tensor.isnan().all() for tensor in captured), "kernels ran while they were captured"
    assert emulator.cuda_on_cpu_replay() == 0
    return captured
