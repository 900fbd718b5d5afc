// relu_mean on CUDA: one read of the feature map, nothing of its size written but the gradient.
// Sums in a fixed order, so the same bits from run to run. On an H200 16x1024x7x7
// (3 MB) takes what its launches take: benchmarks/results/head_nvidia-h200.md.
#include "ops/cuda/operand.cuh"
#include "ops/cuda/run_kernel.cuh"

namespace labelassemble::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 4096;

unsigned int grid_of(std::int64_t blocks) {
  return static_cast<unsigned int>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

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
  const std::int64_t rows = mean.batch * mean.channels;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads / 32;
  for (std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
       row < rows; row += stride) {
    T sum = sum_of_positions<T>(mean, row, threadIdx.x % 32, 32);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(0xffffffffu, sum, step);
    if (threadIdx.x % 32 == 0) write_mean(mean, row, sum);
  }
}

// channels_last: the lanes of a warp along the channels, so that it reads neighbours, and the warps
// of a block along the positions.
template <typename T>
__global__ void __launch_bounds__(kThreads) mean_by_lane(const __grid_constant__ ReluMean mean) {
  constexpr int kWarps = kThreads / 32;
  __shared__ T shared[kWarps][32];
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t rows = mean.batch * mean.channels;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * 32; first < rows;
       first += static_cast<std::int64_t>(gridDim.x) * 32) {
    const std::int64_t row = first + lane;
    const bool inside = row < rows;
    shared[warp][lane] = inside ? sum_of_positions<T>(mean, row, warp, kWarps) : T(0);
    __syncthreads();
    if (warp == 0 && inside) {
      T sum = shared[0][lane];
      for (int other = 1; other < kWarps; ++other) sum += shared[other][lane];
      write_mean(mean, row, sum);
    }
    __syncthreads();  // the next rows are written where these are read
  }
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
  const unsigned int grid = grid_of((rows + rows_of_block - 1) / rows_of_block);
  const bool in_double = mean.feature_map.element == Element::kDouble;
  const auto run = [&](auto* kernel) { return run_kernel(kernel, grid, kThreads, stream, mean); };
  if (channels_last) return run(in_double ? mean_by_lane<double> : mean_by_lane<float>);
  return run(in_double ? mean_by_warp<double> : mean_by_warp<float>);
}

cudaError_t launch_relu_spread(const ReluSpread& spread, cudaStream_t stream) {
  if (spread.entries.total == 0) return cudaSuccess;
  const unsigned int grid = grid_of((spread.entries.total + kThreads - 1) / kThreads);
  const bool in_double = spread.feature_map.element == Element::kDouble;
  return run_kernel(in_double ? spread_kernel<double> : spread_kernel<float>, grid, kThreads,
                    stream, spread);
}

}  // namespace labelassemble::cuda
