// Included before each of the CUDA sources when they are compiled as C++: CUDA's words for code of
// the device. half and bfloat16 are CUDA's own headers, which have code for the host.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <type_traits>

#include "emulator.h"

// Memory that each block has a copy of: the emulator changes these bytes when it goes on with
// another block.
#undef __shared__
#define __shared__ static thread_local
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__

using cuda_on_cpu::blockDim;
using cuda_on_cpu::blockIdx;
using cuda_on_cpu::gridDim;
using cuda_on_cpu::threadIdx;
#define __syncthreads() ::cuda_on_cpu::barrier(__FILE__, __LINE__)
#define __threadfence() ::cuda_on_cpu::fence(__FILE__, __LINE__)

// The branches of the sources that are for the device.
#define __CUDA_ARCH__ 900

inline float __fdividef(float a, float b) { return a / b; }
inline unsigned atomicAdd(unsigned* place, unsigned value) {
  return cuda_on_cpu::add(place, value);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned down) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = cuda_on_cpu::value_of_lane(mask, bits, down);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename Argument>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Argument),
                               const std::type_identity_t<Argument>& argument) {
  // A copy, as the device gets one.
  return cuda_on_cpu::launch(config->gridDim, config->blockDim,
                             [kernel, argument] { kernel(argument); });
}
