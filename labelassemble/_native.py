"""The compiled modules: found and loaded without importing torch, which takes seconds.

`_C` holds the ops and needs torch's libraries, `_images` the decoders and needs none. Which ops serve a call is chosen
in `_extension`.
"""

import ctypes
import importlib
import importlib.util
import os
import runpy
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Final

REBUILD: Final = "run: pip install --no-build-isolation --force-reinstall --no-deps labelassemble"


FORMATS: Final = ("PNG", "JPEG", "TIFF", "WebP", "BMP", "PGM", "PPM")
"""The formats of image files that are read, beside DICOM, which only Python reads."""

_NEWEST_OPS: Final = ("excluded", "class_sums")  # an older build has neither, and other arguments of the loss


def torch_version() -> str:
    """Return the version of the installed torch, as "2.13.0+cpu"; "" without torch."""
    if "torch" in sys.modules:
        return str(sys.modules["torch"].__version__)
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def load_binding() -> tuple[ModuleType | None, str]:
    """Return the module `_C`, or None and why it cannot be used."""
    if "torch" not in sys.modules:
        _load_torch_libraries()
    try:
        module = importlib.import_module("labelassemble._C")
    except ModuleNotFoundError:
        return None, f"labelassemble was installed without its native library; {REBUILD}"
    except ImportError as error:
        return None, f"the native library does not load ({error}); {REBUILD}"
    built_for, installed = str(module.build_info()["torch"]), torch_version()
    if built_for.split("+")[0] != installed.split("+")[0]:
        return None, f"the native library was built for torch {built_for}, not {installed}; {REBUILD}"
    missing = [op for op in _NEWEST_OPS if not hasattr(module, op)]
    if missing:
        return (
            None,
            f"the native library is older than this package (it lacks {', '.join(missing)}); {REBUILD}",
        )
    return module, ""


def load_decoders() -> ModuleType | None:
    """Return the module `_images`, the decoders that Python shares with the programs; None where it was not built."""
    try:
        return importlib.import_module("labelassemble._images")
    except ImportError:
        return None


def built_folder() -> Path | None:
    """Return the folder that holds what the build installed; an editable install keeps it apart from the sources."""
    spec = importlib.util.find_spec("labelassemble._C")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def torch_has_gpu_code() -> bool:
    """Return whether the installed torch was built for a GPU (CUDA, ROCm), by the file in which it says so."""
    for folder in torch_folders():
        said = runpy.run_path(str(folder / "version.py"))
        return any(said.get(name) is not None for name in ("cuda", "hip"))
    return False


def torch_folders() -> list[Path]:
    """Return where torch lies; [] where it is not installed."""
    spec = importlib.util.find_spec("torch")
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []


def _load_torch_libraries() -> None:
    """Load what `_C` is linked to, a tenth of the time of `import torch`; what is missing, its import will name."""
    for folder in torch_folders():
        with suppress(OSError):
            ctypes.CDLL(str(folder / "lib" / "libtorch_python.so"), mode=os.RTLD_LAZY)
