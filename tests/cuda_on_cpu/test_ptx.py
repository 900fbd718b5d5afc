"""What nvcc makes of the kernels; no GPU is needed."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[2]


def test_kernels_of_float_convert_no_options(absent: Callable[[str], NoReturn], tmp_path: Path) -> None:
    """A conversion from double takes as long as eight additions, and ptxas repeats it for each entry."""
    nvcc = shutil.which("nvcc") or absent("nvcc")
    ptx = tmp_path / "kernel.ptx"
    options = ["-std=c++20", "-arch=sm_90", "--expt-relaxed-constexpr", "--extended-lambda"]
    kernel = ROOT / "csrc" / "ops" / "cuda" / "partial_label_loss_kernel.cu"
    subprocess.run([nvcc, "-ptx", *options, "-I", ROOT / "csrc", kernel, "-o", ptx], check=True)
    conversions = {}
    for text in ptx.read_text().split(".entry ")[1:]:
        found = re.search(r"(forward|backward)_kernelIf(\w*?)Lb", text)
        if found is not None:
            conversions[text[: text.index("(")]] = (found.group(1), text.count("cvt.rn.f32.f64"))
    assert len(conversions) >= 15
    # Five operands may be double where they are read in any layout; the loss is rounded once, the scales of the three
    # gradients once a thread.
    for name, (which, count) in conversions.items():
        assert count <= {"forward": 5 + 1, "backward": 5 + 3}[which], name
