// partial_label_loss on CUDA: the forward is one kernel and so is the backward; each reads the
// inputs once and writes nothing of their size but gradients (reduction "none": losses). The
// formulas are those of the CPU.
//
// Sums are deterministic: a thread adds its entries in a fixed order, a block its threads' in a
// fixed tree, and the block that ends last adds the blocks' partial sums by their number. Nothing
// is read back to the host, so a CUDA graph can hold both. Flat operands go by 16 bytes a thread;
// other layouts and dtypes entry by entry, in place. Not measured: written and compiled without a
// GPU (benchmarks/gpu.sh measures).
#include "ops/cuda/operand.cuh"
#include "ops/partial_label_loss_formula.h"

namespace labelassemble::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kEntriesOfOneBlock = 1 << 12;
constexpr int kMaxBlocks = 2048;

struct Sums {
  double bce = 0;
  double pseudo = 0;
  double consistency = 0;
  double known = 0;

  __device__ void add(const Sums& other) {
    bce += other.bce;
    pseudo += other.pseudo;
    consistency += other.consistency;
    known += other.known;
  }
};

// Adds the threads' sums in a fixed tree; the result is thread 0's.
__device__ Sums sum_of_block(Sums sums) {
  __shared__ Sums shared[kThreads / 32];
  for (int step = 16; step > 0; step /= 2) {
    Sums other;
    other.bce = __shfl_down_sync(0xffffffffu, sums.bce, step);
    other.pseudo = __shfl_down_sync(0xffffffffu, sums.pseudo, step);
    other.consistency = __shfl_down_sync(0xffffffffu, sums.consistency, step);
    other.known = __shfl_down_sync(0xffffffffu, sums.known, step);
    sums.add(other);
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = sums;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int warp = 1; warp < kThreads / 32; ++warp) sums.add(shared[warp]);
  }
  return sums;
}

template <typename T>
struct Weights {
  T pos_weight = 1;
  T class_weight = 1;
};

template <typename T>
__device__ __forceinline__ T forward_entry(const LossArguments& arguments, T z, T zs, T target,
                                           const Weights<T>& weights, Sums& sums) {
  const Probability<T> a = probability(z);
  if (target == target) {
    const T term = weights.class_weight * bce(z, a.tail, target, weights.pos_weight);
    sums.bce += term;
    sums.known += 1;
    return term;
  }
  if (arguments.pseudo_weight == 0 && arguments.strong.data == nullptr) return T(0);
  const T move = sharpening(a, static_cast<T>(arguments.threshold),
                            static_cast<T>(arguments.inverse_temperature));
  const T pseudo = weights.class_weight * move * move;
  sums.pseudo += pseudo;
  T total = static_cast<T>(arguments.pseudo_weight) * pseudo;
  if (arguments.strong.data != nullptr) {
    const T gap = probability(zs).value - (a.value - move);
    const T consistency = weights.class_weight * gap * gap;
    sums.consistency += consistency;
    total += static_cast<T>(arguments.consistency_weight) * consistency;
  }
  return total;
}

template <typename T>
struct Scales {
  T known;
  T pseudo;
  T consistency;
  T target_slope;
};

template <typename T>
struct Gradients {
  T weak = 0;
  T strong = 0;
};

template <typename T>
__device__ __forceinline__ Gradients<T> backward_entry(const LossArguments& arguments,
                                                       const Scales<T>& scales, T z, T zs, T target,
                                                       const Weights<T>& weights) {
  const Probability<T> a = probability(z);
  if (target == target)
    return {weights.class_weight * scales.known * bce_slope(a, target, weights.pos_weight), T(0)};
  if (arguments.pseudo_weight == 0 && arguments.strong.data == nullptr) return {};
  const T move = sharpening(a, static_cast<T>(arguments.threshold),
                            static_cast<T>(arguments.inverse_temperature));
  T gap = 0;
  T strong = 0;
  if (arguments.strong.data != nullptr) {
    const Probability<T> a_strong = probability(zs);
    gap = a_strong.value - (a.value - move);
    strong = unknown_slope_strong(a_strong, gap, scales.consistency);
  }
  const T weak = scales.target_slope == T(0)
                     ? unknown_slope_weak(a, move, scales.pseudo)
                     : unknown_slope_weak(a, move, gap, scales.target_slope, scales.pseudo,
                                          scales.consistency);
  return {weights.class_weight * weak, weights.class_weight * strong};
}

template <typename T>
__device__ __forceinline__ Weights<T> weights_at(const LossArguments& arguments,
                                                 std::int64_t index) {
  const Entries& entries = arguments.entries;
  const auto read = [&](const Operand& operand) {
    return operand.data == nullptr ? T(1)
                                   : load<T>(operand.data + offset_of(entries.sizes, entries.axes,
                                                                      operand.strides, index),
                                             operand.element);
  };
  return {read(arguments.pos_weight), read(arguments.class_weight)};
}

template <typename T, bool kTarget = false>
__device__ __forceinline__ T read_at(const Entries& entries, const Operand& operand,
                                     std::int64_t index) {
  return load<T, kTarget>(
      operand.data + offset_of(entries.sizes, entries.axes, operand.strides, index),
      operand.element);
}

template <typename T>
__device__ __forceinline__ void write_at(const Entries& entries, const Operand& operand,
                                         std::int64_t index, T value) {
  store(operand.data + offset_of(entries.sizes, entries.axes, operand.strides, index),
        operand.element, value);
}

// T: computed in; L: the logits' dtype where flat, Y: the targets'.
template <typename T, typename L, typename Y, bool kFlat>
__device__ Sums forward_entries(const LossForward& forward) {
  const LossArguments& arguments = forward.arguments;
  const Entries& entries = arguments.entries;
  constexpr int kCount = kFlat ? 16 / sizeof(L) : 1;
  const std::int64_t packs = entries.total / kCount;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  Sums sums;
  if constexpr (kFlat) {
    for (std::int64_t pack = thread; pack < packs; pack += stride) {
      T z[kCount];
      T zs[kCount] = {};
      T target[kCount];
      T loss[kCount];
      load_pack<L, kCount>(arguments.weak.data, pack * kCount, z);
      if (arguments.strong.data != nullptr)
        load_pack<L, kCount>(arguments.strong.data, pack * kCount, zs);
      load_pack<Y, kCount>(arguments.targets.data, pack * kCount, target);
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        loss[i] = forward_entry<T>(arguments, z[i], zs[i], target[i], {}, sums);
      if (forward.losses.data != nullptr)
        store_pack<T, kCount>(forward.losses.data, pack * kCount, loss);
    }
  }
  const std::int64_t rest = kFlat ? packs * kCount : 0;
  for (std::int64_t index = rest + thread; index < entries.total; index += stride) {
    const T zs =
        arguments.strong.data != nullptr ? read_at<T>(entries, arguments.strong, index) : T(0);
    const T loss = forward_entry<T>(arguments, read_at<T>(entries, arguments.weak, index), zs,
                                    read_at<T, true>(entries, arguments.targets, index),
                                    weights_at<T>(arguments, index), sums);
    if (forward.losses.data != nullptr) write_at(entries, forward.losses, index, loss);
  }
  return sums;
}

template <typename T>
__device__ void write_result(const LossForward& forward, Sums sums) {
  const LossArguments& arguments = forward.arguments;
  const double unknown = static_cast<double>(arguments.entries.total) - sums.known;
  if (arguments.pseudo_weight == 0) sums.pseudo = 0;  // skipped, as where no strong view is read
  if (arguments.reduction == LossReduction::kMean) {
    sums.bce /= sums.known > 0 ? sums.known : 1;
    sums.pseudo /= unknown > 0 ? unknown : 1;
    sums.consistency /= unknown > 0 ? unknown : 1;
  }
  forward.terms[0] = sums.bce;
  forward.terms[1] = sums.pseudo;
  forward.terms[2] = sums.consistency;
  forward.terms[3] = sums.known;
  forward.terms[4] = unknown;
  if (forward.loss != nullptr) {
    const double total = sums.bce + arguments.pseudo_weight * sums.pseudo +
                         arguments.consistency_weight * sums.consistency;
    *static_cast<T*>(forward.loss) = static_cast<T>(total);
  }
}

template <typename T, typename L, typename Y, bool kFlat>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const __grid_constant__ LossForward forward) {
  const Sums sums = sum_of_block(forward_entries<T, L, Y, kFlat>(forward));
  if (gridDim.x == 1) {
    if (threadIdx.x == 0) write_result<T>(forward, sums);
    return;
  }
  __shared__ bool last;
  auto* partials = reinterpret_cast<Sums*>(forward.partials);
  if (threadIdx.x == 0) {
    partials[blockIdx.x] = sums;
    __threadfence();
    last = atomicAdd(forward.finished, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  Sums all;
  for (unsigned int block = threadIdx.x; block < gridDim.x; block += kThreads)
    all.add(partials[block]);
  __syncthreads();
  all = sum_of_block(all);
  if (threadIdx.x == 0) write_result<T>(forward, all);
}

template <typename T, typename L, typename Y, bool kFlat>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const __grid_constant__ LossBackward backward) {
  const LossArguments& arguments = backward.arguments;
  const Entries& entries = arguments.entries;
  const bool per_entry = arguments.reduction == LossReduction::kNone;
  const bool mean = arguments.reduction == LossReduction::kMean;
  const double incoming = per_entry ? 1 : load<T>(backward.grad.data, backward.grad.element);
  const double of_known =
      mean ? (backward.terms[3] > 0 ? incoming / backward.terms[3] : 0) : incoming;
  const double of_unknown =
      mean ? (backward.terms[4] > 0 ? incoming / backward.terms[4] : 0) : incoming;
  const Scales<T> scales{static_cast<T>(of_known),
                         static_cast<T>(arguments.pseudo_weight * of_unknown),
                         static_cast<T>(arguments.consistency_weight * of_unknown),
                         static_cast<T>(backward.target_slope)};
  constexpr int kCount = kFlat ? 16 / sizeof(L) : 1;
  const std::int64_t packs = kFlat && !per_entry ? entries.total / kCount : 0;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if constexpr (kFlat) {
    for (std::int64_t pack = thread; pack < packs; pack += stride) {
      T z[kCount];
      T zs[kCount] = {};
      T target[kCount];
      T weak[kCount];
      T strong[kCount];
      load_pack<L, kCount>(arguments.weak.data, pack * kCount, z);
      if (arguments.strong.data != nullptr)
        load_pack<L, kCount>(arguments.strong.data, pack * kCount, zs);
      load_pack<Y, kCount>(arguments.targets.data, pack * kCount, target);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const Gradients<T> gradients =
            backward_entry<T>(arguments, scales, z[i], zs[i], target[i], {});
        weak[i] = gradients.weak;
        strong[i] = gradients.strong;
      }
      if (backward.grad_weak.data != nullptr)
        store_pack<L, kCount>(backward.grad_weak.data, pack * kCount, weak);
      if (backward.grad_strong.data != nullptr) {
        store_pack<L, kCount>(backward.grad_strong.data, pack * kCount, strong);
      }
    }
  }
  for (std::int64_t index = packs * kCount + thread; index < entries.total; index += stride) {
    const T zs =
        arguments.strong.data != nullptr ? read_at<T>(entries, arguments.strong, index) : T(0);
    Gradients<T> gradients = backward_entry<T>(
        arguments, scales, read_at<T>(entries, arguments.weak, index), zs,
        read_at<T, true>(entries, arguments.targets, index), weights_at<T>(arguments, index));
    const T factor = per_entry ? read_at<T>(entries, backward.grad, index) : T(1);
    if (backward.grad_weak.data != nullptr)
      write_at(entries, backward.grad_weak, index, factor * gradients.weak);
    if (backward.grad_strong.data != nullptr) {
      write_at(entries, backward.grad_strong, index, factor * gradients.strong);
    }
  }
}

// Calls run(T, L, Y, flat) with the types as values of this kind.
template <typename Type>
struct Of {
  using type = Type;
};

template <typename Run>
void with_types(const LossArguments& arguments, const Run& run) {
  // Entry by entry the dtypes are the operands' own.
  if (!arguments.entries.flat) {
    return arguments.in_double ? run(Of<double>{}, Of<double>{}, Of<double>{}, std::false_type{})
                               : run(Of<float>{}, Of<float>{}, Of<float>{}, std::false_type{});
  }
  const auto with_targets = [&](auto logits) {
    using L = typename decltype(logits)::type;
    using T = std::conditional_t<std::is_same_v<L, double>, double, float>;
    if (arguments.targets.element == arguments.weak.element)
      return run(Of<T>{}, logits, logits, std::true_type{});
    return run(Of<T>{}, logits, Of<float>{}, std::true_type{});
  };
  switch (arguments.weak.element) {
    case Element::kDouble:
      return run(Of<double>{}, Of<double>{}, Of<double>{}, std::true_type{});
    case Element::kHalf:
      return with_targets(Of<__half>{});
    case Element::kBFloat16:
      return with_targets(Of<__nv_bfloat16>{});
    default:
      return run(Of<float>{}, Of<float>{}, Of<float>{}, std::true_type{});
  }
}

}  // namespace

int loss_blocks(std::int64_t total) {
  if (total <= kEntriesOfOneBlock) return 1;
  const std::int64_t blocks = (total + kThreads * 8 - 1) / (kThreads * 8);
  return static_cast<int>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

cudaError_t launch_loss_forward(const LossForward& forward, cudaStream_t stream) {
  with_types(forward.arguments, [&](auto t, auto l, auto y, auto flat) {
    forward_kernel<typename decltype(t)::type, typename decltype(l)::type,
                   typename decltype(y)::type, decltype(flat)::value>
        <<<loss_blocks(forward.arguments.entries.total), kThreads, 0, stream>>>(forward);
  });
  return cudaGetLastError();
}

cudaError_t launch_loss_backward(const LossBackward& backward, cudaStream_t stream) {
  const std::int64_t total = backward.arguments.entries.total;
  const std::int64_t blocks = (total + kThreads * 4 - 1) / (kThreads * 4);
  const auto grid = static_cast<unsigned int>(blocks < 8 * kMaxBlocks ? blocks : 8 * kMaxBlocks);
  if (grid == 0) return cudaSuccess;
  with_types(backward.arguments, [&](auto t, auto l, auto y, auto flat) {
    backward_kernel<typename decltype(t)::type, typename decltype(l)::type,
                    typename decltype(y)::type, decltype(flat)::value>
        <<<grid, kThreads, 0, stream>>>(backward);
  });
  return cudaGetLastError();
}

}  // namespace labelassemble::cuda
