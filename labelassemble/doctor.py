"""What is installed, what was built, and why not where something was not."""

import importlib.util
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from labelassemble import _native
from labelassemble.errors import LabelAssembleError
from labelassemble.export.native import cmake_path, find_program, server_reason
from labelassemble.processor import processor_name
from labelassemble.training.speed import bfloat16_is_quicker
from labelassemble.version import __version__

_LIBRARIES = {"PNG": "libpng", "JPEG": "libjpeg", "TIFF": "libtiff", "WebP": "libwebp"}


class Finding(NamedTuple):
    """One line of the doctor's."""

    name: str
    good: bool | None  # None: neither good nor bad, it is optional
    what: str


def examine() -> list[Finding]:
    """Return the findings; one that is not good keeps labelassemble from doing its work well.

    torch is not imported but where its build is for a GPU, which only it can ask.
    """
    torch = _native.torch_version()
    binding, reason = _native.load_binding()
    findings = [
        Finding("labelassemble", True, __version__),
        Finding("Python", True, platform.python_version()),
        Finding("torch", bool(torch), torch or "not installed"),
        Finding("processor", True, f"{processor_name()}, {len(os.sched_getaffinity(0))} cores to use"),
    ]
    if binding is not None:
        info = binding.build_info()
        findings += [
            Finding(
                "native library", True, f"loaded, built by {info['compiler']} against torch {info['torch']}"
            ),
            Finding("CPU kernels", True, f"{binding.cpu_capability()} vectors"),
            Finding(
                "CUDA kernels", None, f"{'built' if info['cuda'] else 'not built'}: {info['cuda_reason']}"
            ),
            Finding("labelassemble-serve", None, server_reason(info)),
        ]
    else:
        findings.append(Finding("native library", False, f"not loaded, slow Python code serves: {reason}"))
    device, capability = _cuda_device()
    findings.append(Finding("CUDA device", None, device))
    quick, why = bfloat16_is_quicker(capability)
    findings.append(Finding("training", None, f"in {'bfloat16' if quick else 'float32'} by default: {why}"))
    try:
        findings.append(Finding("labelassemble-predict", True, str(find_program())))
    except LabelAssembleError as error:
        findings.append(Finding("labelassemble-predict", False, str(error)))
    with suppress(LabelAssembleError):  # said of the program above
        findings.append(
            Finding("package for CMake", True, f"{cmake_path()} (labelassemble doctor --cmake-path)")
        )
    findings.append(_image_formats())
    findings.append(_optional("DALI", "nvidia.dali", ("nvidia-dali-cuda130", "nvidia-dali-cuda120")))
    findings.append(_optional("kornia_rs, which reads PNG", "kornia_rs", ("kornia_rs",)))
    findings.append(_optional("scikit-learn", "sklearn", ("scikit-learn",)))
    findings.append(_optional("MONAI, which resamples volumes", "monai", ("monai",), "'labelassemble[ct]'"))
    findings.append(_optional("nibabel, which reads NIfTI", "nibabel", ("nibabel",), "'labelassemble[ct]'"))
    return findings


def _cuda_device() -> tuple[str, tuple[int, int] | None]:
    """Return what the GPU is called and its compute capability, or why there is none and None."""
    if not _native.torch_has_gpu_code():
        return "none that torch can use: it is a build for the CPU", None
    import torch

    if not torch.cuda.is_available():
        return "none that torch can use", None
    return torch.cuda.get_device_name(), torch.cuda.get_device_capability()


def _image_formats() -> Finding:
    decoders = _native.load_decoders()
    built = () if decoders is None else tuple(decoders.formats())
    absent = [name for name in _native.FORMATS if name not in built]
    if not built:
        what = "read by Pillow: the native library lacks its decoders"
        return Finding("image files", False, f"{what}; {_native.REBUILD}")
    read = f"{', '.join(built)} are read alike by Python and the programs"
    if any(
        name not in _LIBRARIES for name in absent
    ):  # what needs no library is in every build of this version
        what = f"{read}, {', '.join(absent)} are not: the native library is older than this package"
        return Finding("image files", False, f"{what}; {_native.REBUILD}")
    if absent:
        lacking = "; ".join(f"{name}: built without {_LIBRARIES[name]}" for name in absent)
        packages = " ".join(f"{_LIBRARIES[name]}-dev" for name in absent)
        return Finding(
            "image files", False, f"{read}; {lacking} (apt-get install {packages}, then build again)"
        )
    return Finding("image files", True, f"{', '.join(built)}; DICOM in Python only")


def _optional(name: str, module: str, packages: tuple[str, ...], extra: str = "") -> Finding:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        found = False
    if not found:
        return Finding(name, None, f"not installed (pip install {extra or packages[0]})")
    for package in packages:
        try:
            return Finding(name, None, version(package))
        except PackageNotFoundError:
            continue
    return Finding(name, None, "installed")
