#!/usr/bin/env bash
# On a machine with a CUDA GPU, one command: builds, tests, measures, checks with compute-sanitizer, trains; tables go to
# benchmarks/results/ with the device's name, and into the folder $OUT where that is set. Each step stays under ten
# minutes on 16 cores. Needs a CUDA torch (2.11 or later), nvcc, CMake, a C++20 compiler, and for the step sanitize
# compute-sanitizer. Downloads nothing: benchmarks/gpu_wheels.sh fetches the Python packages, elsewhere, into
# build/gpu-wheels, which this script finds.
#
#   benchmarks/gpu.sh                           # everything
#   STEPS=build,test,measure benchmarks/gpu.sh  # some of: build test measure sanitize train dali
#   benchmarks/gpu.sh --dry-run                 # without a GPU: what would keep the steps from beginning
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
steps=${STEPS:-build,test,measure,sanitize,train,dali}
build=$PWD/build/gpu
wheels=$PWD/build/gpu-wheels
dry_run=""
case "${1:-}" in
  "") ;;
  --dry-run) dry_run=1 ;;
  *) echo "gpu.sh: unknown option $1; it takes --dry-run" >&2; exit 2 ;;
esac
for step in ${steps//,/ }; do
  case $step in
    build | test | measure | sanitize | train | dali) ;;
    *) echo "gpu.sh: STEPS names $step; there are build, test, measure, sanitize, train and dali" >&2; exit 2 ;;
  esac
done
wants() { [[ ",${steps// /,}," == *",$1,"* ]]; }
say() { printf '\n== %s\n' "$*"; }

# The package of this build, then what was carried, then what the caller has.
export PYTHONPATH="$build/package:$wheels/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1

configure() {
  cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DSKBUILD_PROJECT_VERSION=0 -DLABELASSEMBLE_CUDA=ON \
    -DLABELASSEMBLE_SERVE=OFF -DCMAKE_CUDA_ARCHITECTURES="$1" -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)"
  cmake --build "$build" --target _C --parallel
}

# A package of links to the sources with the libraries in it, before any installed one.
link_package() {
  rm -rf "$build/package"
  mkdir -p "$build/package/labelassemble"
  find "$PWD/labelassemble" -mindepth 1 -maxdepth 1 ! -name '*.so' -exec ln -s {} "$build/package/labelassemble/" \;
  cp "$build"/csrc/_C*.so "$build"/csrc/ops/liblabelassemble_ops.so "$build/package/labelassemble/"
  export LD_LIBRARY_PATH="$build/package/labelassemble:${LD_LIBRARY_PATH:-}"
}

# Whole trainings and predictions, where the packages of `pip install labelassemble` are, or those of the step dali.
whole=(tests/training tests/models tests/views)
is_packaged() { "$python" -c 'import jinja2, kornia, matplotlib, pandas, pyarrow, rich, scipy, typer' 2>/dev/null; }
trainings() { "$python" -P -m pytest -q -p no:cacheprovider -m "cuda and not dali" "${whole[@]}"; }

if [[ $dry_run ]]; then
  say "what the steps import"
  "$python" benchmarks/gpu_imports.py
  say "the CUDA tests"
  folders=(tests/ops)
  if is_packaged; then folders+=("${whole[@]}"); fi
  LABELASSEMBLE_FAIL_WITHOUT_CUDA=1 "$python" -m pytest -q -p no:cacheprovider -m cuda --collect-only "${folders[@]}" |
    tail -1
  say "build"
  if [[ -z $("$python" -c 'import torch; print(torch.version.cuda or "")') ]]; then
    echo "the installed torch is a CPU build: nothing is configured (make cuda-objects compiles the sources)"
  else
    configure 90
  fi
  say "ready for a GPU"
  exit
fi

"$python" - <<'PY'
import importlib.util, sys
needed = ["torch", "numpy", "pybind11", "pydantic", "pytest", "hypothesis", "PIL"]
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"gpu.sh: {sys.executable} lacks {', '.join(missing)}; benchmarks/gpu_wheels.sh fetches what is needed")
import torch
if not torch.cuda.is_available():
    sys.exit(f"gpu.sh: torch {torch.__version__} sees no CUDA device; without one: benchmarks/gpu.sh --dry-run")
PY
export LABELASSEMBLE_FAIL_WITHOUT_CUDA=1
results=$PWD/benchmarks/results
say "device"
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit --format=csv

if wants build; then
  say "build"
  # For this GPU alone, which takes a third of the time.
  configure "$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')"
fi
link_package
"$python" -P - "$build" <<'PY'
import sys
import torch
from labelassemble import _extension
info = _extension.build_info()
if not info.get("cuda") or not _extension.__file__.startswith(sys.argv[1]):
    sys.exit(f"gpu.sh: {_extension.__file__} is loaded instead of this build: pip uninstall labelassemble, then again")
PY

# What a step measured is there even where the next one fails.
keep() {
  if [[ -n ${OUT:-} ]]; then
    name=$("$python" -P -c 'import sys; sys.path.insert(0, "benchmarks"); from harness import device_name; print(device_name("cuda"))')
    mkdir -p "$OUT"
    find "$results" -name "*$name*" -exec cp {} "$OUT/" \;
  fi
}
trap keep EXIT

trained=""
if wants test; then
  say "test"
  "$python" -P -m pytest -q -p no:cacheprovider -m cuda tests/ops
  if is_packaged; then
    trainings
    trained=1
  fi
fi

if wants measure; then
  say "measure"
  "$python" benchmarks/loss.py --device cuda --seconds 0.5
  "$python" benchmarks/head.py --device cuda --seconds 0.5
  "$python" benchmarks/overhead.py --device cuda --seconds 0.5
fi

if wants sanitize; then
  say "sanitize"
  tests=("$python" -P -m pytest -q -p no:cacheprovider -m cuda tests/ops -k sanitizer)
  for tool in memcheck racecheck; do
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --kernel-name kernel_substring=labelassemble \
      --error-exitcode 1 "${tests[@]}"
  done
  # initcheck must see who else writes what our kernels read, so it tells of torch's kernels too: ours alone count.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool initcheck "${tests[@]}" >"$build/initcheck.log" 2>&1 || true
  grep -E "passed|failed|ERROR SUMMARY" "$build/initcheck.log"
  if grep -E "at .*labelassemble::cuda" "$build/initcheck.log"; then
    echo "gpu.sh: a kernel reads what nothing has written: $build/initcheck.log" >&2
    exit 1
  fi
fi

if wants train; then
  say "train"
  "$python" benchmarks/training.py --device cuda
fi

if wants dali; then
  say "dali"
  # The wheel may have come in pieces, each small enough to be carried.
  if compgen -G "$wheels/dali/*.piece.*" >/dev/null && [[ ! -d $wheels/dali-site ]]; then
    cat "$wheels"/dali/*.piece.* | tar -xJ -C "$wheels"
  fi
  export PYTHONPATH="$PYTHONPATH:$wheels/dali-site"
  if "$python" -c 'import nvidia.dali' 2>/dev/null; then
    "$python" -P -m pytest -q -p no:cacheprovider -m "cuda and dali" tests/views
    [[ $trained ]] || trainings
    "$python" benchmarks/views.py --training  # a step fed by each backend, against tensors that are there
  else
    echo "gpu.sh: NVIDIA DALI is not installed (benchmarks/gpu_wheels.sh dali): its views are not measured"
  fi
fi
