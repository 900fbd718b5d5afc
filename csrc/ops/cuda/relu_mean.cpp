// relu_mean on CUDA: checks, memory and launch; the kernels are in relu_mean_kernel.cu.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "ops/class_query_logits.h"
#include "ops/cuda/operands.h"

namespace labelassemble::cuda {
namespace {

using at::Tensor;

Tensor forward(const Tensor& feature_map) {
  check_feature_map(feature_map);
  const c10::cuda::CUDAGuard guard(feature_map.device());
  const Tensor means = at::empty({feature_map.size(0), feature_map.size(1)}, feature_map.options());
  const auto size = static_cast<std::int64_t>(feature_map.element_size());
  ReluMean launch;
  launch.feature_map.data = static_cast<char*>(const_cast<void*>(feature_map.const_data_ptr()));
  launch.feature_map.element = element_of(feature_map);
  launch.batch_stride = feature_map.stride(0) * size;
  launch.channel_stride = feature_map.stride(1) * size;
  launch.batch = feature_map.size(0);
  launch.channels = feature_map.size(1);
  launch.positions = 1;
  launch.feature_map.strides[0] = size;
  for (std::int64_t axis = feature_map.dim() - 1; axis >= 2; --axis) {
    const std::int64_t length = feature_map.size(axis);
    const std::int64_t stride = feature_map.stride(axis) * size;
    launch.positions *= length;
    if (length == 1) continue;
    const int last = launch.axes - 1;
    if (last >= 0 && stride == launch.feature_map.strides[last] * launch.sizes[last]) {
      launch.sizes[last] *= length;
      continue;
    }
    if (launch.axes == kAxes) return forward(feature_map.contiguous());
    launch.sizes[launch.axes] = length;
    launch.feature_map.strides[launch.axes++] = stride;
  }
  launch.means = static_cast<char*>(means.mutable_data_ptr());
  C10_CUDA_CHECK(launch_relu_mean(launch, c10::cuda::getCurrentCUDAStream()));
  return means;
}

Tensor backward(const Tensor& grad, const Tensor& feature_map) {
  check_feature_map(feature_map);
  const c10::cuda::CUDAGuard guard(feature_map.device());
  const Tensor result = at::empty_like(feature_map);
  if (feature_map.numel() == 0) return result;
  const std::int64_t rows = feature_map.size(0) * feature_map.size(1);
  at::DimVector shape(feature_map.dim(), 1);
  shape[0] = feature_map.size(0);
  shape[1] = feature_map.size(1);
  const Tensor along = grad.contiguous().view(shape);
  ReluSpread launch;
  Operands operands;
  operands.add_output(result, launch.result);
  operands.add_input(feature_map, launch.feature_map);
  operands.add_input(along, launch.grad);
  const std::optional<Entries> entries = operands.lay_out();
  if (!entries.has_value()) return backward(grad, feature_map.contiguous());
  launch.entries = *entries;
  launch.scale = static_cast<double>(rows) / static_cast<double>(feature_map.numel());
  C10_CUDA_CHECK(launch_relu_spread(launch, c10::cuda::getCurrentCUDAStream()));
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, CUDA, m) {
  m.impl("relu_mean", forward);
  m.impl("_relu_mean_backward", backward);
}

}  // namespace labelassemble::cuda
