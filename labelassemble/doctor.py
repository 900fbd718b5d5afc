"""What is installed, what was built, and why not where something was not."""

import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import torch

from labelassemble import _extension
from labelassemble.data.formats import FORMATS, program_formats
from labelassemble.errors import LabelAssembleError
from labelassemble.export.program import find_program
from labelassemble.run import processor_name
from labelassemble.version import __version__

_LIBRARIES = {"PNG": "libpng", "JPEG": "libjpeg", "TIFF": "libtiff", "WebP": "libwebp"}


class Finding(NamedTuple):
    """One line of the doctor's."""

    name: str
    good: bool | None  # None: neither good nor bad, it is optional
    what: str


def examine() -> list[Finding]:
    """Return the findings; one that is not good keeps labelassemble from doing its work well."""
    findings = [
        Finding("labelassemble", True, __version__),
        Finding("Python", True, platform.python_version()),
        Finding("torch", True, torch.__version__),
        Finding("processor", True, f"{processor_name()}, {torch.get_num_threads()} threads"),
    ]
    if _extension.NATIVE:
        info = _extension.build_info()
        findings += [
            Finding(
                "native library", True, f"loaded, built by {info['compiler']} against torch {info['torch']}"
            ),
            Finding("CPU kernels", True, f"{_extension.cpu_capability()} vectors"),
            Finding(
                "CUDA kernels",
                None,
                ("built: " if info["cuda"] else "not built: ") + str(info["cuda_reason"]),
            ),
            Finding(
                "labelassemble-serve",
                None,
                ("built: " if info["serve"] else "not built: ") + str(info["serve_reason"]),
            ),
        ]
    else:
        findings.append(
            Finding("native library", False, f"not loaded, slow Python code serves: {_extension.REASON}")
        )
    cuda = torch.cuda.is_available()
    findings.append(
        Finding("CUDA device", None, torch.cuda.get_device_name() if cuda else "none that torch can use")
    )
    try:
        findings.append(Finding("labelassemble-predict", True, str(find_program())))
    except LabelAssembleError as error:
        findings.append(Finding("labelassemble-predict", False, str(error)))
    findings.append(_image_formats())
    findings.append(_optional("DALI", "nvidia.dali", ("nvidia-dali-cuda130", "nvidia-dali-cuda120")))
    findings.append(_optional("kornia_rs, which reads PNG", "kornia_rs", ("kornia_rs",)))
    findings.append(_optional("scikit-learn", "sklearn", ("scikit-learn",)))
    return findings


def _image_formats() -> Finding:
    built = program_formats()
    lacking = [f"{name}: built without {_LIBRARIES[name]}" for name in FORMATS if name not in built]
    if not built:
        what = "read by Pillow: the native library lacks its decoders"
        return Finding("image files", False, f"{what}; {_extension.REBUILD}")
    if lacking:
        packages = " ".join(f"{_LIBRARIES[name]}-dev" for name in FORMATS if name not in built)
        read = f"{', '.join(built)} are read alike by Python and the programs"
        return Finding(
            "image files",
            False,
            f"{read}; {'; '.join(lacking)} (apt-get install {packages}, then build again)",
        )
    return Finding("image files", True, f"{', '.join(built)}; DICOM in Python only")


def _optional(name: str, module: str, packages: tuple[str, ...]) -> Finding:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        found = False
    if not found:
        return Finding(name, None, f"not installed (pip install {packages[0]})")
    for package in packages:
        try:
            return Finding(name, None, version(package))
        except PackageNotFoundError:
            continue
    return Finding(name, None, "installed")
