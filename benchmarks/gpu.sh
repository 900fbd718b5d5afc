#!/usr/bin/env bash
# On a machine with a CUDA GPU, one command: builds, tests, checks with compute-sanitizer, and measures; tables go to
# benchmarks/results/ with the device's name. Needs a CUDA torch (2.11 or later), nvcc, compute-sanitizer, and the
# Python packages that are asked for below; installs and downloads nothing.
#
#   benchmarks/gpu.sh                    # everything
#   STEPS="build test" benchmarks/gpu.sh # some of: build test sanitize measure
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
steps=${STEPS:-build test sanitize measure}
build=build/gpu
export LABELASSEMBLE_FAIL_WITHOUT_CUDA=1 PYTHONPATH="$PWD/$build/package"

wants() { [[ " $steps " == *" $1 "* ]]; }

"$python" - <<'PY'
import importlib.util, sys
needed = ["torch", "pybind11", "numpy", "pydantic", "pytest", "hypothesis", "PIL"]
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"gpu.sh: {sys.executable} lacks {', '.join(missing)}")
import torch
if not torch.cuda.is_available():
    sys.exit(f"gpu.sh: torch {torch.__version__} sees no CUDA device")
PY

if wants build; then
  # For this GPU alone, which takes a third of the time.
  architecture=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
  cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DSKBUILD_PROJECT_VERSION=0 -DLABELASSEMBLE_CUDA=ON \
    -DCMAKE_CUDA_ARCHITECTURES="$architecture" -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)"
  cmake --build "$build" --target _C --parallel
fi
# A package of links to the sources with the libraries in it, before any installed one.
rm -rf "$build/package"
mkdir -p "$build/package/labelassemble"
ln -s "$PWD"/labelassemble/* "$build/package/labelassemble/"
cp "$build"/csrc/_C*.so "$build"/csrc/ops/liblabelassemble_ops.so "$build/package/labelassemble/"
export LD_LIBRARY_PATH="$PWD/$build/package/labelassemble:${LD_LIBRARY_PATH:-}"
"$python" -P - <<'PY'
import sys
import torch
from labelassemble import _extension
info = _extension.build_info()
if not info.get("cuda") or "build/gpu" not in _extension.__file__:
    sys.exit(f"gpu.sh: {_extension.__file__} is loaded instead of this build: pip uninstall labelassemble, then again")
PY

if wants test; then
  "$python" -P -m pytest -q -p no:cacheprovider -m cuda tests/ops
fi

if wants sanitize; then
  # Our kernels alone are looked at; initcheck must see who else writes what they read.
  ours="--kernel-name kernel_substring=labelassemble"
  for tool in "memcheck $ours" "racecheck $ours" initcheck; do
    # shellcheck disable=SC2086 # the tool and its options
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $tool --error-exitcode 1 \
      "$python" -P -m pytest -q -p no:cacheprovider -m cuda tests/ops -k sanitizer
  done
fi

if wants measure; then
  "$python" benchmarks/loss.py --device cuda --seconds 0.5
  "$python" benchmarks/head.py --device cuda --seconds 0.5
  "$python" benchmarks/overhead.py --device cuda --seconds 0.5
  "$python" benchmarks/training.py --device cuda
  if "$python" -c 'import nvidia.dali' 2>/dev/null; then
    "$python" benchmarks/views.py --training  # a training step fed by each backend, against tensors that are there
  else
    echo "gpu.sh: without NVIDIA DALI the views are not measured"
  fi
fi
