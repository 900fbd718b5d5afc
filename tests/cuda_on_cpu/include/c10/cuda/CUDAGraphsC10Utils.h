#pragma once

#include <cuda_runtime_api.h>

namespace c10::cuda {

struct CUDAStreamCaptureModeGuard {
  explicit CUDAStreamCaptureModeGuard(cudaStreamCaptureMode /*mode*/) {}
};

}  // namespace c10::cuda
