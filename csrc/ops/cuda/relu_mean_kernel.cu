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

__host__ __device__ __forceinline__ std::int64_t size_of(Element element) {
  return element == Element::kDouble ? 8 : element == Element::kFloat ? 4 : 2;
}

// The sum over positions first, first + step, ... of channel `row` (counted over all images).
template <typename T>
__device__ __forceinline__ T sum_of_positions(const ReluMean& mean, std::int64_t row, int first,
                                              int step) {
  const char* from = mean.feature_map.data + row / mean.channels * mean.batch_stride +
                     row % mean.channels * mean.channel_stride;
  const std::int64_t* const strides[] = {mean.feature_map.strides};
  T sum = 0;
  for (std::int64_t position = first; position < mean.positions; position += step) {
    std::int64_t offset[1];
    offsets_of(mean.sizes, mean.axes, position, strides, offset);
    sum += relu(load<T>(from + offset[0], mean.feature_map.element));
  }
  return sum;
}

template <typename T>
__device__ __forceinline__ void write_mean(const ReluMean& mean, std::int64_t row, T sum) {
  const Element element = mean.feature_map.element;
  store(mean.means + row * size_of(element), element, sum / static_cast<T>(mean.positions));
}

// A warp for each channel of an image, its lanes along the spatial axes.
template <typename T>
__global__ void __launch_bounds__(kThreads) mean_by_warp(const __grid_constant__ ReluMean mean) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (row >= mean.batch * mean.channels) return;
  T sum = sum_of_positions<T>(mean, row, threadIdx.x % 32, 32);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) write_mean(mean, row, sum);
}

// channels_last: the lanes of a warp along the channels, so that it reads neighbours, and the warps
// of a block along the positions.
template <typename T>
__global__ void __launch_bounds__(kThreads) mean_by_lane(const __grid_constant__ ReluMean mean) {
  constexpr int kWarps = kThreads / 32;
  __shared__ T shared[kWarps][32];
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * 32 + lane;
  const bool inside = row < mean.batch * mean.channels;
  shared[warp][lane] = inside ? sum_of_positions<T>(mean, row, warp, kWarps) : T(0);
  __syncthreads();
  if (warp != 0 || !inside) return;
  T sum = shared[0][lane];
  for (int other = 1; other < kWarps; ++other) sum += shared[other][lane];
  write_mean(mean, row, sum);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    spread_kernel(const __grid_constant__ ReluSpread spread) {
  const Entries& entries = spread.entries;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
       index < entries.total; index += stride) {
    const std::int64_t* const strides[] = {spread.feature_map.strides, spread.grad.strides,
                                           spread.result.strides};
    std::int64_t offsets[3];
    offsets_of(entries.sizes, entries.axes, index, strides, offsets);
    const T value = load<T>(spread.feature_map.data + offsets[0], spread.feature_map.element);
    const T grad =
        load<T>(spread.grad.data + offsets[1], spread.grad.element) * static_cast<T>(spread.scale);
    store(spread.result.data + offsets[2], spread.result.element, value <= T(0) ? T(0) : grad);
  }
}

}  // namespace

cudaError_t launch_relu_mean(const ReluMean& mean, cudaStream_t stream) {
  const std::int64_t rows = mean.batch * mean.channels;
  if (rows == 0) return cudaSuccess;
  const std::int64_t element = size_of(mean.feature_map.element);
  const bool channels_last =
      mean.channel_stride == element && mean.feature_map.strides[0] != element;
  const int rows_of_block = channels_last ? 32 : kThreads / 32;
  const auto grid = static_cast<unsigned int>((rows + rows_of_block - 1) / rows_of_block);
  const bool in_double = mean.feature_map.element == Element::kDouble;
  if (channels_last) {
    in_double ? mean_by_lane<double><<<grid, kThreads, 0, stream>>>(mean)
              : mean_by_lane<float><<<grid, kThreads, 0, stream>>>(mean);
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
