# Finds the torch that is installed beside the Python that builds, and makes of it the target
# labelassemble::torch. Not find_package(Torch): on a CUDA torch with a toolkit that holds only nvcc
# it fails although nothing of the toolkit is needed here.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c
          "import pathlib, torch; print(pathlib.Path(torch.__file__).parent, torch.__version__, torch.version.cuda or '', int(torch.compiled_with_cxx11_abi()), sep=';')"
  OUTPUT_VARIABLE torch_facts ERROR_VARIABLE torch_error
  OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE torch_status)
if(NOT torch_status EQUAL 0)
  # pip hides what is installed from a build in isolation by PYTHONPATH, which -I leaves out.
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -I -c "import importlib.metadata as m; print(m.version('torch'))"
    OUTPUT_VARIABLE hidden_torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE hidden_status)
  if(hidden_status EQUAL 0)
    message(FATAL_ERROR
      "This build runs in isolation, which hides the torch ${hidden_torch} that is installed and that labelassemble is "
      "built against. Build without: pip install scikit-build-core pybind11 && pip install --no-build-isolation .")
  endif()
  string(REGEX MATCH "[^\n]*Error[^\n]*" torch_error "${torch_error}")
  message(FATAL_ERROR
    "labelassemble builds against the torch that is installed in your environment, without isolation, and "
    "${Python_EXECUTABLE} cannot import one (${torch_error}). Install it first (pip install \"torch>=2.11\"), then run: "
    "pip install scikit-build-core pybind11 && pip install --no-build-isolation .")
endif()
list(GET torch_facts 0 TORCH_DIR)
list(GET torch_facts 1 TORCH_VERSION)
list(GET torch_facts 2 TORCH_CUDA_VERSION)
list(GET torch_facts 3 TORCH_CXX11_ABI)
if(TORCH_VERSION VERSION_LESS 2.11)
  message(FATAL_ERROR "labelassemble needs torch 2.11 or later, and ${Python_EXECUTABLE} has ${TORCH_VERSION}. "
    "Install it first: pip install \"torch>=2.11\"")
endif()
message(STATUS "torch ${TORCH_VERSION} (CUDA: ${TORCH_CUDA_VERSION}) in ${TORCH_DIR}")

add_library(labelassemble_torch INTERFACE)
add_library(labelassemble::torch ALIAS labelassemble_torch)
target_include_directories(labelassemble_torch SYSTEM INTERFACE
  "${TORCH_DIR}/include" "${TORCH_DIR}/include/torch/csrc/api/include")
target_compile_definitions(labelassemble_torch INTERFACE _GLIBCXX_USE_CXX11_ABI=${TORCH_CXX11_ABI})
target_compile_features(labelassemble_torch INTERFACE cxx_std_20)
target_link_directories(labelassemble_torch INTERFACE "${TORCH_DIR}/lib")
target_link_libraries(labelassemble_torch INTERFACE torch torch_cpu c10)
