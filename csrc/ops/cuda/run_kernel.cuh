// Launches a kernel: a function of the runtime, so that no source has the syntax of CUDA for it.
#pragma once

#include <cuda_runtime_api.h>

namespace labelassemble::cuda {

template <typename Argument>
cudaError_t run_kernel(void (*kernel)(Argument), unsigned int blocks, int threads,
                       cudaStream_t stream, const Argument& argument) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(static_cast<unsigned int>(threads));
  config.stream = stream;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, argument);
  return error == cudaSuccess ? error : cudaGetLastError();
}

}  // namespace labelassemble::cuda
