"""The native library: loads it, or says why it cannot be, and chooses what serves a call of an op.

`NATIVE` is True when the C++ ops are there; otherwise `REASON` says why not, and every function runs its
plain torch reference after one warning. Nothing is chosen silently: `labelassemble doctor` prints both.
"""

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from labelassemble import _native
from labelassemble.errors import LabelAssembleError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_binding, REASON = _native.load_binding()
NATIVE: bool = _binding is not None
_warned = False

_COMPILER_TAKES_ALL_FOR_EXPORTED: bool = torch.__version__ < "2.13"  # a TorchVersion, compared as one
_holds_tensors: Callable[[object], bool] = is_traceable_wrapper_subclass
Function = TypeVar("Function", bound=Callable[..., object])


def implementation(op: str, reference: Function, first: Tensor) -> Function:
    """Return the function that serves a call of an op; all of them take the arguments of its schema, by position.

    That is the pybind11 binding in an eager call, since it costs less than `torch.ops` (benchmarks/overhead.py); the
    dispatcher's op under torch.compile, torch.export and torch.jit.trace, which see no other; and `reference` where
    plain torch can what the op cannot: under torch.func (grad, vmap, jacrev, ...) and forward-mode differentiation, for
    a DTensor (whose loss `ops.sharded` brings to the op) and other subclasses that hold tensors, and, after a warning
    once a process, without the native library.

    Args:
        op: its name.
        reference: the same in plain torch.
        first: the first tensor of the call.
    """
    if _binding is None:
        _warn_of_fallback()
        return reference
    if (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or (type(first) is not Tensor and _holds_tensors(first))
    ):
        return reference
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return getattr(torch.ops.labelassemble, op)  # type: ignore[no-any-return]
    return getattr(_binding, op)  # type: ignore[no-any-return]


def is_exporting() -> bool:
    """Return whether torch.export runs; for the compiler of torch 2.11 torch's own function is always True."""
    if _COMPILER_TAKES_ALL_FOR_EXPORTED:
        return torch.compiler._is_exporting_flag
    return torch.compiler.is_exporting()


def is_distributed(tensor: Tensor) -> TypeGuard["DTensor"]:
    """Return whether a tensor is a DTensor, without importing what makes one: whoever has one has imported it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def define(schema: str, reference: Callable[..., object]) -> None:
    """Make `torch.ops.labelassemble` have an op where there is no native library, so that calls of it can be scripted.

    Args:
        schema: as the C++ source has it.
        reference: what it calls, differentiable.
    """
    name = "labelassemble::" + schema.partition("(")[0]
    # A native library that cannot be used may have loaded, with its own op, all the same; none is defined twice.
    if not NATIVE and not torch._C._dispatch_has_kernel(name):
        torch.library.define(name, schema[schema.index("(") :])
        torch.library.impl(name, "CompositeImplicitAutograd", reference)


def _warn_of_fallback() -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"labelassemble runs in plain torch, slower: {REASON}", RuntimeWarning, stacklevel=4)


def cpu_capability() -> str:
    """Return whose instructions the kernels use: "baseline", "avx2" or "avx512"; "none" without kernels."""
    return str(_binding.cpu_capability()) if _binding is not None else "none"


def check_processor() -> None:
    """Refuse an ATEN_CPU_CAPABILITY that the processor lacks; torch believes it, and then the process is killed.

    Raises:
        LabelAssembleError: with what was asked for and what the processor has.
    """
    missing = str(_binding.missing_capability()) if _binding is not None else ""
    if missing:
        raise LabelAssembleError(missing)


def build_info() -> dict[str, Any]:
    """Return version, torch, cuda, cuda_reason and compiler of the native build; {} without one."""
    return dict(_binding.build_info()) if _binding is not None else {}
