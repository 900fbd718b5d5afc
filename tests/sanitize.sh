#!/usr/bin/env bash
# Builds the native part with AddressSanitizer and UndefinedBehaviorSanitizer beside the ordinary build and runs the op
# tests on it. torch itself is not instrumented; leaks are not looked for, as Python keeps what it has at exit.
# Instrumented code does not fuse products with sums, which the stated accuracy needs: that one test is left out.
#
#   tests/sanitize.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
build=build/sanitize
flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1"

cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSKBUILD_PROJECT_VERSION=0 -DLABELASSEMBLE_CUDA=OFF \
  -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" \
  -DCMAKE_CXX_FLAGS="$flags" > "$build.log" 2>&1 || { cat "$build.log"; exit 1; }
cmake --build "$build" --target _C --parallel 2

# A package of links to the sources with the instrumented libraries in it.
package=$build/package/labelassemble
rm -rf "$build/package"
mkdir -p "$package"
ln -s "$PWD"/labelassemble/* "$package/"
cp "$build"/csrc/_C*.so "$build"/csrc/ops/liblabelassemble_ops.so "$package/"

compiler=${CXX:-g++}
LD_PRELOAD="$("$compiler" -print-file-name=libasan.so):$("$compiler" -print-file-name=libubsan.so):$("$compiler" -print-file-name=libstdc++.so)" \
ASAN_OPTIONS=detect_leaks=0:protect_shadow_gap=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
LD_LIBRARY_PATH="$PWD/$package" PYTHONPATH="$PWD/$build/package" \
  "$python" -P -c '
import sys
# Not the editable install, which would find the ordinary build first.
sys.meta_path = [finder for finder in sys.meta_path if "scikitbuild" not in type(finder).__name__.lower()]
import labelassemble, pytest
from labelassemble import _extension
assert "sanitize" in labelassemble.__file__ and _extension.NATIVE, (labelassemble.__file__, _extension.REASON)
sys.exit(pytest.main(sys.argv[1:]))
' -q -p no:cacheprovider tests/ops -m "not cuda and not slow" \
  --deselect tests/ops/test_partial_label_loss_extremes.py::test_accuracy_in_ulps "$@"
