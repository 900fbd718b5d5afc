// relu_mean on CUDA: one read of the feature map, nothing of its size written but the gradient.
// Sums in a fixed order, so the same bits from run to run. Not measured: written and compiled
// without a GPU.
#include "ops/cuda/operand.cuh"

namespace labelassemble::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__device__ __forceinline__ T relu(T value) {
  return value < T(0) ? T(0) : value;  // a NaN stays
}

// A warp for each channel of an image, its lanes along the spatial axes.
template <typename T>
__global__ void __launch_bounds__(kThreads) mean_by_warp(const __grid_constant__ ReluMean mean) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= mean.batch * mean.channels) return;
  const char* from = mean.feature_map.data + row / mean.channels * mean.batch_stride +
                     row % mean.channels * mean.channel_stride;
  T sum = 0;
  for (std::int64_t position = threadIdx.x % 32; position < mean.positions; position += 32) {
    const std::int64_t offset =
        offset_of(mean.sizes, mean.axes, mean.feature_map.strides, position);
    sum += relu(load<T>(from + offset, mean.feature_map.element));
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) {
    const std::int64_t size = mean.feature_map.element == Element::kDouble  ? 8
                              : mean.feature_map.element == Element::kFloat ? 4
                                                                            : 2;
    store(mean.means + row * size, mean.feature_map.element, sum / static_cast<T>(mean.positions));
  }
}

// channels_last: a thread for each channel of an image, so that a warp reads neighbours.
template <typename T>
__global__ void __launch_bounds__(kThreads) mean_by_thread(const __grid_constant__ ReluMean mean) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= mean.batch * mean.channels) return;
  const char* from = mean.feature_map.data + row / mean.channels * mean.batch_stride +
                     row % mean.channels * mean.channel_stride;
  T sum = 0;
  for (std::int64_t position = 0; position < mean.positions; ++position) {
    const std::int64_t offset =
        offset_of(mean.sizes, mean.axes, mean.feature_map.strides, position);
    sum += relu(load<T>(from + offset, mean.feature_map.element));
  }
  store(mean.means + row * mean.channel_stride, mean.feature_map.element,
        sum / static_cast<T>(mean.positions));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    spread_kernel(const __grid_constant__ ReluSpread spread) {
  const Entries& entries = spread.entries;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
       index < entries.total; index += stride) {
    const auto at = [&](const Operand& operand) {
      return operand.data + offset_of(entries.sizes, entries.axes, operand.strides, index);
    };
    const T value = load<T>(at(spread.feature_map), spread.feature_map.element);
    const T grad = load<T>(at(spread.grad), spread.grad.element) * static_cast<T>(spread.scale);
    store(at(spread.result), spread.result.element, value <= T(0) ? T(0) : grad);
  }
}

}  // namespace

cudaError_t launch_relu_mean(const ReluMean& mean, cudaStream_t stream) {
  const std::int64_t rows = mean.batch * mean.channels;
  if (rows == 0) return cudaSuccess;
  const std::int64_t element = mean.feature_map.element == Element::kDouble  ? 8
                               : mean.feature_map.element == Element::kFloat ? 4
                                                                             : 2;
  const bool channels_last =
      mean.channel_stride == element && mean.feature_map.strides[0] != element;
  const std::int64_t threads = channels_last ? rows : rows * 32;
  const auto grid = static_cast<unsigned int>((threads + kThreads - 1) / kThreads);
  const bool in_double = mean.feature_map.element == Element::kDouble;
  if (channels_last) {
    in_double ? mean_by_thread<double><<<grid, kThreads, 0, stream>>>(mean)
              : mean_by_thread<float><<<grid, kThreads, 0, stream>>>(mean);
  } else {
    in_double ? mean_by_warp<double><<<grid, kThreads, 0, stream>>>(mean)
              : mean_by_warp<float><<<grid, kThreads, 0, stream>>>(mean);
  }
  return cudaGetLastError();
}

cudaError_t launch_relu_spread(const ReluSpread& spread, cudaStream_t stream) {
  if (spread.entries.total == 0) return cudaSuccess;
  const std::int64_t blocks = (spread.entries.total + kThreads - 1) / kThreads;
  const auto grid = static_cast<unsigned int>(blocks < 65536 ? blocks : 65536);
  spread.feature_map.element == Element::kDouble
      ? spread_kernel<double><<<grid, kThreads, 0, stream>>>(spread)
      : spread_kernel<float><<<grid, kThreads, 0, stream>>>(spread);
  return cudaGetLastError();
}

}  // namespace labelassemble::cuda
