#!/usr/bin/env bash
# On a machine with a CUDA GPU, one command: builds, tests, checks with compute-sanitizer, and measures; tables go to
# benchmarks/results/ with the device's name. Needs a CUDA torch (2.11 or later), nvcc and compute-sanitizer.
#
#   benchmarks/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}

"$python" -c 'import torch; assert torch.cuda.is_available(), "no CUDA device, or a torch without CUDA"'
"$python" -m pip install --no-build-isolation -C cmake.define.LABELASSEMBLE_CUDA=ON -e ".[demo,test]"

export LABELASSEMBLE_FAIL_WITHOUT_CUDA=1
"$python" -m pytest -q -m cuda tests/ops

for tool in memcheck racecheck initcheck; do
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 1 \
    "$python" -m pytest -q -m cuda tests/ops -k "sanitizer"
done

"$python" benchmarks/loss.py --device cuda
"$python" benchmarks/head.py --device cuda
