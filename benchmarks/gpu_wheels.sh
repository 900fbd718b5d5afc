#!/usr/bin/env bash
# Fetches what benchmarks/gpu.sh needs beside a CUDA torch, for a machine that reaches nothing: Python 3.12 on x86-64.
#
#   benchmarks/gpu_wheels.sh         # the packages of gpu_packages.txt, unpacked, under 60 MB: build/gpu-wheels/site
#   benchmarks/gpu_wheels.sh dali    # those of gpu_packages_dali.txt, in pieces of 50 MB: build/gpu-wheels/dali
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
wheels=build/gpu-wheels
mkdir -p "$wheels"

# fetch FOLDER ARGUMENT...: unpacks wheels into FOLDER.
fetch() {
  local folder=$1
  shift
  rm -rf "$folder" "$wheels/new"
  "$python" -m pip download --quiet --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$wheels/new" "$@"
  mkdir -p "$folder"
  for wheel in "$wheels"/new/*.whl; do "$python" -m zipfile -e "$wheel" "$folder"; done
  rm -rf "$wheels/new"
}

case "${1:-}" in
  "")
    fetch "$wheels/site" --no-deps -r benchmarks/gpu_packages.txt
    size=$(du -sm "$wheels/site" | cut -f1)
    echo "$wheels/site: $size MB"
    if ((size >= 60)); then
      echo "gpu_wheels.sh: more than 60 MB; shorten benchmarks/gpu_packages.txt" >&2
      exit 1
    fi
    ;;
  dali)
    fetch "$wheels/dali-site" --no-deps -r benchmarks/gpu_packages_dali.txt
    # What no step reads: modules of other Pythons, headers, tests.
    find "$wheels/dali-site" -name '*.cpython-3*.so' ! -name '*.cpython-312-*' -delete
    find "$wheels/dali-site" -type d \( -name include -o -name tests \) -prune -exec rm -rf {} +
    rm -rf "$wheels/dali"
    mkdir -p "$wheels/dali"
    tar -C "$wheels" -c dali-site | xz -T0 -3 | split -b 50M - "$wheels/dali/site.tar.xz.piece."
    rm -rf "$wheels/dali-site"
    du -sh "$wheels"/dali/*
    ;;
  *)
    echo "gpu_wheels.sh: unknown argument $1; it takes dali, or none" >&2
    exit 2
    ;;
esac
