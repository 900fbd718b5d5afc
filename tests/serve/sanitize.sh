#!/usr/bin/env bash
# Builds labelassemble-serve with sanitizers beside the ordinary build, and runs its tests on that.
#
#   tests/serve/sanitize.sh address,undefined [pytest arguments]
#   tests/serve/sanitize.sh thread [pytest arguments]
#
# The server answers HTTP and gRPC, so that both conformance suites run on it. libtorch and gRPC are not instrumented:
# leaks are not looked for (libtorch keeps what it has at exit), and what ThreadSanitizer cannot see into is named, with
# the reason, in thread.supp.
set -euo pipefail
cd "$(dirname "$0")/../.."
sanitizers=$1
shift
python=${PYTHON:-python}
build=build/serve-${sanitizers//,/-}
# The program finds its own libraries, so that labelassemble-predict, which tests run beside it, has the ordinary ones.
torch=$("$python" -c "import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec('torch').origin).parent)")
flags="-fsanitize=$sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer -g1 -O1"

"$(dirname "$(command -v "$python")")/cmake" -S . -B "$build" -DSKBUILD_PROJECT_VERSION=0.0.0 -DLABELASSEMBLE_CUDA=OFF \
  -DLABELASSEMBLE_SERVE=ON -DLABELASSEMBLE_GRPC=ON -DPython_EXECUTABLE="$(command -v "$python")" \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DCMAKE_CXX_FLAGS="$flags" \
  -DCMAKE_EXE_LINKER_FLAGS="-Wl,--disable-new-dtags,-rpath,$PWD/$build/csrc/runtime:$torch/lib" > "$build.log" 2>&1 ||
  { cat "$build.log"; exit 1; }
"$(dirname "$(command -v "$python")")/cmake" --build "$build" --target labelassemble-serve --parallel 2

export LABELASSEMBLE_SERVE_PROGRAM="$PWD/$build/csrc/serve/labelassemble-serve"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
# With one thread an operation has no barriers of OpenMP, which ThreadSanitizer does not see.
[[ $sanitizers != *thread* ]] || export OMP_THREAD_LIMIT=1
export TSAN_OPTIONS=suppressions="$PWD/tests/serve/thread.supp":ignore_noninstrumented_modules=1
# Sanitizers keep freed memory for a while, so that tests of the process's memory say nothing here; and Python, without
# them, cannot load what is built with them.
"$python" -m pytest -q -p no:cacheprovider tests/serve --deselect tests/serve/test_fuzz_corpus.py \
  --deselect tests/serve/test_limits.py::test_closed_connections_leave_no_memory \
  --deselect tests/serve/test_limits.py::test_labelassemble_serve_is_the_same_program \
  --deselect tests/serve/test_alive.py::test_images_are_weighed_before_they_are_decoded \
  --deselect tests/serve/test_grpc_limits.py::test_messages_that_do_not_end_take_little_memory \
  --deselect tests/serve/test_volumes.py::test_memory_is_taken_before_it_is_used \
  --deselect "tests/serve/test_grpc_floods.py::test_frames_for_nothing_are_held_back[PING]" \
  --deselect tests/serve/test_grpc_floods.py::test_calls_that_are_reset_are_bounded_in_sum "$@"

# With next to nothing kept, those of memory hold under AddressSanitizer too.
if [[ $sanitizers == *address* && $# == 0 ]]; then
  ASAN_OPTIONS="$ASAN_OPTIONS:quarantine_size_mb=1:thread_local_quarantine_size_kb=64" "$python" -m pytest -q -p no:cacheprovider \
    tests/serve/test_limits.py::test_closed_connections_leave_no_memory \
    tests/serve/test_alive.py::test_images_are_weighed_before_they_are_decoded \
    tests/serve/test_grpc_limits.py::test_messages_that_do_not_end_take_little_memory \
    tests/serve/test_volumes.py::test_memory_is_taken_before_it_is_used
fi
