// Included before the sources that register CUDA kernels: they become the kernels of CPU tensors.
#pragma once

#include <torch/library.h>

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(library, key, module) _TORCH_LIBRARY_IMPL(library, CPU, module, C10_UID)
