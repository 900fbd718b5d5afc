#pragma once

#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

extern "C" const char* cuda_on_cpu_take_fault();

#define C10_CUDA_CHECK(call)                                                 \
  do {                                                                       \
    const cudaError_t error = (call);                                        \
    TORCH_CHECK(error == cudaSuccess, "CUDA on the CPU: error ", error, " ", \
                cuda_on_cpu_take_fault());                                   \
  } while (false)
