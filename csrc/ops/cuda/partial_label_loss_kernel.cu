// partial_label_loss on CUDA: the forward is one kernel and so is the backward; each reads the
// inputs once and writes nothing of their size but gradients (reduction "none": losses). The
// formulas are those of the CPU.
//
// Sums are deterministic: a thread adds its entries in a fixed order, 32 of them in float and those
// sums in double (a conversion takes as long as eight additions), a block its threads' in a
// fixed tree, and the block that ends last adds the blocks' partial sums by their number. Nothing
// is read back to the host, so a CUDA graph can hold both. Flat operands go by 16 bytes a thread;
// other layouts and dtypes, and those with weights by class or with `absent`, entry by entry, in
// place.
//
// Measured on an H200 (a copy moves 4.25 TB/s), 4x16x128^3, half of the entries unknown at random,
// kernels alone (whole calls: benchmarks/results/loss_nvidia-h200.csv): the forward 375 us in float
// (4.29 TB/s) and 230 in bfloat16 (3.50), the backward 649 (4.13) and 324 (4.14). Before
// partial_label_loss_flat.cuh the loop had 121 instructions an entry, of which it now has 36 to 43
// (up to 51 where known labels learn from both views), and was bound by them: 557 and 523 us the
// forward, 725 and 505 the backward (beside other work on the card).
// With 3, 5, 6, 8 and 16 blocks a multiprocessor instead of 4 the forward in float takes 388, 450,
// 400, 376 and 377 us: 5 and 6 leave a last wave of few blocks. 2x4x96^3 takes 35 us, 2.4 TB/s.
// Not measured: an H100, and what goes entry by entry.
#include "ops/cuda/partial_label_loss_entry.cuh"
#include "ops/cuda/partial_label_loss_flat.cuh"
#include "ops/cuda/partial_label_loss_sums.cuh"
#include "ops/cuda/run_kernel.cuh"

namespace labelassemble::cuda {
namespace {

constexpr std::int64_t kEntriesOfOneBlock = 4 * kThreadsOfOneBlock;
constexpr int kEntriesOfThread = 4;  // at least: a pack of float
// All blocks of the forward run at once: each adds up an equal share, and a last wave of a few
// would leave most of the GPU idle.
constexpr int kBlocksOfProcessor = 4;
constexpr std::int64_t kMaxBlocksOfBackward = 16384;

// Flat operands, computed in float, one loss; see partial_label_loss_flat.cuh.
template <typename L, typename Y, bool kBothViews>
__device__ Sums forward_flat(const LossForward& forward) {
  const LossArguments& arguments = forward.arguments;
  const EntryOptions<float>& options = arguments.options_in_float;
  RefusedValues<float>* const refused = refused_in<float>(forward.refused);
  const std::int64_t total = arguments.entries.total;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const auto add = [&](const auto& inputs, FlatSums& to) {
    constexpr int kCount = std::decay_t<decltype(inputs)>::kEntries;
    if (refused != nullptr && !are_allowed(inputs.target)) {
      for (int i = 0; i < kCount; ++i) is_allowed(inputs[i], *refused);
      to.known = NAN;  // and so is their total, which makes NaN of all terms
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      add_flat<kBothViews>(options, inputs.z[i], inputs.zs[i], inputs.target[i], to);
  };
  const auto close = [](const FlatSums& some) { return some.close<kBothViews>(); };
  constexpr int kCount = 16 / sizeof(L);
  const std::int64_t packs = total / kCount;
  Sums sums{};
  add_up<FlatSums, kEntriesInFloat / kCount>(
      sums, thread, packs, stride,
      [&](std::int64_t pack, FlatSums& to) {
        add(Packs<float, L, Y, kCount>(arguments, pack * kCount), to);
      },
      close);
  add_up<FlatSums, kEntriesInFloat>(
      sums, packs * kCount + thread, total, stride,
      [&](std::int64_t index, FlatSums& to) { add(Packs<float, L, Y, 1>(arguments, index), to); },
      close);
  return sums;
}

// T: computed in; L: the logits' dtype where flat, Y: the targets'.
template <typename T, typename L, typename Y, bool kFlat>
__device__ Sums forward_entries(const LossForward& forward) {
  const LossArguments& arguments = forward.arguments;
  const EntryOptions<T>& options = options_in<T>(arguments);
  RefusedValues<T>* const refused = refused_in<T>(forward.refused);
  const std::int64_t total = arguments.entries.total;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const auto as_it_is = [](const SumsOf<T>& some) { return some; };
  Sums sums{};
  std::int64_t rest = 0;
  if constexpr (kFlat) {
    constexpr int kCount = 16 / sizeof(L);
    const std::int64_t packs = total / kCount;
    const auto add_pack = [&](std::int64_t pack, SumsOf<T>& to) {
      const Packs<T, L, Y, kCount> inputs(arguments, pack * kCount);
      T loss[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) loss[i] = forward_entry<T>(options, inputs[i], refused, to);
      if (forward.losses.data != nullptr)
        store_pack<T, kCount>(forward.losses.data, pack * kCount, loss);
    };
    add_up<SumsOf<T>, kEntriesInFloat / kCount>(sums, thread, packs, stride, add_pack, as_it_is);
    rest = packs * kCount;
  }
  const auto add_entry = [&](std::int64_t index, SumsOf<T>& to) {
    std::int64_t offset;
    std::int64_t unused;
    const Entry<T> entry =
        entry_at<T>(arguments, index, forward.losses, forward.losses, offset, unused);
    const T loss = forward_entry<T>(options, entry, refused, to);
    if (forward.losses.data != nullptr)
      store(forward.losses.data + offset, forward.losses.element, loss);
  };
  add_up<SumsOf<T>, kEntriesInFloat>(sums, rest + thread, total, stride, add_entry, as_it_is);
  return sums;
}

// Blocks of kSize threads of which a multiprocessor is to hold as many as run at once.
template <int kSize>
constexpr int kResident = kSize == kThreads ? kBlocksOfProcessor : 1;

template <typename T, typename L, typename Y, bool kFlat, int kSize>
__global__ void __launch_bounds__(kSize, kResident<kSize>)
    forward_kernel(const __grid_constant__ LossForward forward) {
  finish<T, kSize>(forward, forward_entries<T, L, Y, kFlat>(forward));
}

template <typename L, typename Y, bool kBothViews, int kSize>
__global__ void __launch_bounds__(kSize, kResident<kSize>)
    forward_flat_kernel(const __grid_constant__ LossForward forward) {
  finish<float, kSize>(forward, forward_flat<L, Y, kBothViews>(forward));
}

// What a gradient is to be multiplied by.
template <typename T>
__device__ __forceinline__ Scales<T> scales_of(const LossBackward& backward, bool per_entry) {
  const LossArguments& arguments = backward.arguments;
  const bool mean = arguments.options.reduction == Reduction::kMean;
  double incoming = per_entry ? 1 : *reinterpret_cast<const T*>(backward.grad.data);
  if (backward.terms[3] != backward.terms[3]) incoming = 0;  // a value was not allowed
  const double of_known =
      mean ? (backward.terms[3] > 0 ? incoming / backward.terms[3] : 0) : incoming;
  const double of_unknown =
      mean ? (backward.terms[4] > 0 ? incoming / backward.terms[4] : 0) : incoming;
  return {static_cast<T>(options_in<T>(arguments).both_views ? of_known / 2 : of_known),
          static_cast<T>(arguments.options.pseudo_weight * of_unknown),
          static_cast<T>(arguments.options.consistency_weight * of_unknown)};
}

// Flat operands, computed in float, pseudo-labels that are constants, one gradient that comes in;
// see partial_label_loss_flat.cuh.
template <typename L, typename Y, bool kBothViews>
__global__ void __launch_bounds__(kThreads)
    backward_flat_kernel(const __grid_constant__ LossBackward backward) {
  const LossArguments& arguments = backward.arguments;
  const EntryOptions<float>& options = arguments.options_in_float;
  const Scales<float> scales = scales_of<float>(backward, false);
  const std::int64_t total = arguments.entries.total;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const auto write = [&](const auto& inputs, std::int64_t first) {
    constexpr int kCount = std::decay_t<decltype(inputs)>::kEntries;
    float weak[kCount];
    float strong[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Gradients<float> slopes =
          flat_slopes<kBothViews>(options, scales, inputs.z[i], inputs.zs[i], inputs.target[i]);
      weak[i] = slopes.weak;
      strong[i] = slopes.strong;
    }
    if (backward.grad_weak.data != nullptr)
      store_pack<L, kCount>(backward.grad_weak.data, first, weak);
    if (backward.grad_strong.data != nullptr)
      store_pack<L, kCount>(backward.grad_strong.data, first, strong);
  };
  constexpr int kCount = 16 / sizeof(L);
  const std::int64_t packs = total / kCount;
  for (std::int64_t pack = thread; pack < packs; pack += stride)
    write(Packs<float, L, Y, kCount>(arguments, pack * kCount), pack * kCount);
  for (std::int64_t index = packs * kCount + thread; index < total; index += stride)
    write(Packs<float, L, Y, 1>(arguments, index), index);
}

template <typename T, typename L, typename Y, bool kFlat>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const __grid_constant__ LossBackward backward) {
  const LossArguments& arguments = backward.arguments;
  const EntryOptions<T>& options = options_in<T>(arguments);
  const std::int64_t total = arguments.entries.total;
  const bool per_entry = arguments.options.reduction == Reduction::kNone;
  const Scales<T> scales = scales_of<T>(backward, per_entry);
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  std::int64_t rest = 0;
  if constexpr (kFlat) {
    constexpr int kCount = 16 / sizeof(L);
    const std::int64_t packs = total / kCount;
    for (std::int64_t pack = thread; pack < packs; pack += stride) {
      const Packs<T, L, Y, kCount> inputs(arguments, pack * kCount);
      T factor[kCount];
      if (per_entry) load_pack<T, kCount>(backward.grad.data, pack * kCount, factor);
      T weak[kCount];
      T strong[kCount];
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const Gradients<T> gradients = backward_entry<T>(options, scales, inputs[i]);
        weak[i] = per_entry ? factor[i] * gradients.weak : gradients.weak;
        strong[i] = per_entry ? factor[i] * gradients.strong : gradients.strong;
      }
      if (backward.grad_weak.data != nullptr)
        store_pack<L, kCount>(backward.grad_weak.data, pack * kCount, weak);
      if (backward.grad_strong.data != nullptr)
        store_pack<L, kCount>(backward.grad_strong.data, pack * kCount, strong);
    }
    rest = packs * kCount;
  }
  for (std::int64_t index = rest + thread; index < total; index += stride) {
    std::int64_t weak;
    std::int64_t strong;
    const Entry<T> entry =
        entry_at<T>(arguments, index, backward.grad_weak, backward.grad_strong, weak, strong);
    const Gradients<T> gradients = backward_entry<T>(options, scales, entry);
    T factor = 1;
    if (per_entry) {
      const std::int64_t* const strides[] = {backward.grad.strides};
      std::int64_t offsets[1];
      offsets_of(arguments.entries.sizes, arguments.entries.axes, index, strides, offsets);
      factor = *reinterpret_cast<const T*>(backward.grad.data + offsets[0]);
    }
    if (backward.grad_weak.data != nullptr)
      store(backward.grad_weak.data + weak, backward.grad_weak.element, factor * gradients.weak);
    if (backward.grad_strong.data != nullptr)
      store(backward.grad_strong.data + strong, backward.grad_strong.element,
            factor * gradients.strong);
  }
}

// Types as values.
template <typename Type>
struct Of {
  using type = Type;
};

// Calls run(L, Y) with the dtypes of logits and targets that lie flat.
template <typename Run>
cudaError_t with_packs(const LossArguments& arguments, const Run& run) {
  const auto with_targets = [&](auto logits) {
    if (arguments.targets.element == arguments.weak.element) return run(logits, logits);
    return run(logits, Of<float>{});
  };
  switch (arguments.weak.element) {
    case Element::kHalf:
      return with_targets(Of<__half>{});
    case Element::kBFloat16:
      return with_targets(Of<__nv_bfloat16>{});
    default:
      return run(Of<float>{}, Of<float>{});
  }
}

// Calls run(L, Y, whether known entries learn from both views).
template <typename Run>
cudaError_t with_flat_types(const LossArguments& arguments, const Run& run) {
  return with_packs(arguments, [&](auto l, auto y) {
    return arguments.options_in_float.both_views ? run(l, y, std::true_type{})
                                                 : run(l, y, std::false_type{});
  });
}

// Calls run(T, L, Y, flat).
template <typename Run>
cudaError_t with_types(const LossArguments& arguments, const Run& run) {
  const bool flat = arguments.entries.flat;
  if (arguments.in_double) {
    return flat ? run(Of<double>{}, Of<double>{}, Of<double>{}, std::true_type{})
                : run(Of<double>{}, Of<double>{}, Of<double>{}, std::false_type{});
  }
  // Entry by entry the dtypes are the operands' own.
  if (!flat) return run(Of<float>{}, Of<float>{}, Of<float>{}, std::false_type{});
  return with_packs(arguments,
                    [&](auto l, auto y) { return run(Of<float>{}, l, y, std::true_type{}); });
}

}  // namespace

int loss_blocks(std::int64_t total) {
  if (total <= kEntriesOfOneBlock) return 1;
  int device = 0;
  int processors = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
    processors = 1;
  constexpr int kEntries = kThreads * kEntriesOfThread;
  const std::int64_t most = static_cast<std::int64_t>(processors) * kBlocksOfProcessor;
  const std::int64_t blocks = (total + kEntries - 1) / kEntries;
  return static_cast<int>(blocks < most ? blocks : most);
}

std::int64_t loss_partials(int blocks) {
  return blocks == 1 ? 0 : 4 * static_cast<std::int64_t>(blocks) + 1;  // 1 for `finished`
}

cudaError_t launch_loss_forward(const LossForward& forward, cudaStream_t stream) {
  const int blocks = forward.blocks;
  const bool one_block = forward.partials == nullptr;
  if (!one_block) {
    const cudaError_t error = cudaMemsetAsync(
        forward.partials + 4 * static_cast<std::int64_t>(blocks), 0, sizeof(double), stream);
    if (error != cudaSuccess) return error;
  }
  const auto launch = [&](auto* of_one_block, auto* of_many) {
    return one_block ? run_kernel(of_one_block, 1, kThreadsOfOneBlock, stream, forward)
                     : run_kernel(of_many, blocks, kThreads, stream, forward);
  };
  if (forward.arguments.entries.flat && !forward.arguments.in_double &&
      forward.losses.data == nullptr) {
    return with_flat_types(forward.arguments, [&](auto l, auto y, auto both) {
      using L = typename decltype(l)::type;
      using Y = typename decltype(y)::type;
      constexpr bool kBoth = decltype(both)::value;
      return launch(forward_flat_kernel<L, Y, kBoth, kThreadsOfOneBlock>,
                    forward_flat_kernel<L, Y, kBoth, kThreads>);
    });
  }
  return with_types(forward.arguments, [&](auto t, auto l, auto y, auto flat) {
    using T = typename decltype(t)::type;
    using L = typename decltype(l)::type;
    using Y = typename decltype(y)::type;
    constexpr bool kFlat = decltype(flat)::value;
    return launch(forward_kernel<T, L, Y, kFlat, kThreadsOfOneBlock>,
                  forward_kernel<T, L, Y, kFlat, kThreads>);
  });
}

cudaError_t launch_loss_backward(const LossBackward& backward, cudaStream_t stream) {
  const std::int64_t total = backward.arguments.entries.total;
  constexpr int kEntries = kThreads * kEntriesOfThread;
  const std::int64_t blocks = (total + kEntries - 1) / kEntries;
  const auto grid =
      static_cast<unsigned int>(blocks < kMaxBlocksOfBackward ? blocks : kMaxBlocksOfBackward);
  if (grid == 0) return cudaSuccess;
  const LossArguments& arguments = backward.arguments;
  if (arguments.entries.flat && !arguments.in_double && arguments.options_in_float.unknown &&
      arguments.options_in_float.target_slope == 0 &&
      arguments.options.reduction != Reduction::kNone) {
    return with_flat_types(arguments, [&](auto l, auto y, auto both) {
      return run_kernel(backward_flat_kernel<typename decltype(l)::type, typename decltype(y)::type,
                                             decltype(both)::value>,
                        grid, kThreads, stream, backward);
    });
  }
  return with_types(arguments, [&](auto t, auto l, auto y, auto flat) {
    return run_kernel(backward_kernel<typename decltype(t)::type, typename decltype(l)::type,
                                      typename decltype(y)::type, decltype(flat)::value>,
                      grid, kThreads, stream, backward);
  });
}

}  // namespace labelassemble::cuda
