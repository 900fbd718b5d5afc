"""The native library: loads it, or says why it cannot be, and which of its doors a call should take.

`NATIVE` is True when the C++ ops are there; otherwise `REASON` says why not, and every function runs its
plain torch reference after one warning. Nothing is chosen silently: `labelassemble doctor` prints both.
"""

import importlib
import warnings
from types import ModuleType
from typing import Any

import torch

from labelassemble.errors import LabelAssembleError

REBUILD = "run: pip install --no-build-isolation --force-reinstall --no-deps labelassemble"


def _load() -> tuple[ModuleType | None, str]:
    try:
        module = importlib.import_module("labelassemble._C")
    except ModuleNotFoundError:
        return None, f"labelassemble was installed without its native library; {REBUILD}"
    except ImportError as error:
        return None, f"the native library does not load ({error}); {REBUILD}"
    built_for = str(module.build_info()["torch"])
    if built_for.split("+")[0] != torch.__version__.split("+")[0]:
        return None, f"the native library was built for torch {built_for}, not {torch.__version__}; {REBUILD}"
    return module, ""


_module, REASON = _load()
NATIVE: bool = _module is not None
_warned = False


def native_door() -> Any:
    """Return the module whose functions serve an eager call, or None where the dispatcher must be taken.

    pybind11 functions cost less than `torch.ops` (benchmarks/overhead.py), but only the latter are seen by
    torch.compile, torch.export and torch.jit.trace.
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return None
    return _module


def warn_of_fallback() -> None:
    """Warn, once a process, that plain torch does the native library's work."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"labelassemble runs in plain torch, slower: {REASON}", RuntimeWarning, stacklevel=4)


def cpu_capability() -> str:
    """Return whose instructions the kernels use: "baseline", "avx2" or "avx512"; "none" without kernels."""
    return str(_module.cpu_capability()) if _module is not None else "none"


def check_processor() -> None:
    """Refuse an ATEN_CPU_CAPABILITY that the processor lacks; torch believes it, and then the process is killed.

    Raises:
        LabelAssembleError: with what was asked for and what the processor has.
    """
    missing = str(_module.missing_capability()) if _module is not None else ""
    if missing:
        raise LabelAssembleError(missing)


def build_info() -> dict[str, Any]:
    """Return version, torch, cuda, cuda_reason and compiler of the native build; {} without one."""
    return dict(_module.build_info()) if _module is not None else {}
