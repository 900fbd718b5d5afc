// From the sums of entries to the result of a loss: of a thread, of its block, and of all blocks,
// each in a fixed order, so the same bits from run to run.
#pragma once

#include "ops/cuda/partial_label_loss_entry.cuh"

namespace labelassemble::cuda {

inline constexpr int kThreads = 256;
// A small batch is one block of more threads: one launch, and no second stage of the sums.
inline constexpr int kThreadsOfOneBlock = 1024;
inline constexpr int kEntriesInFloat = 32;  // of a thread, before they are added in double

// Adds the threads' sums in a fixed tree; the result is thread 0's.
__device__ inline Sums sum_of_block(Sums sums) {
  __shared__ Sums shared[32];
  for (int step = 16; step > 0; step /= 2) {
    const Sums other{__shfl_down_sync(0xffffffffu, sums.bce, step),
                     __shfl_down_sync(0xffffffffu, sums.pseudo, step),
                     __shfl_down_sync(0xffffffffu, sums.consistency, step),
                     __shfl_down_sync(0xffffffffu, sums.known, step)};
    sums.add(other);
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = sums;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (unsigned int warp = 1; warp < blockDim.x / 32; ++warp) sums.add(shared[warp]);
  }
  return sums;
}

// Adds what body adds for index first, first + stride, ... below end, kIndices of them in `Some` at
// a time, which close() makes sums of.
template <typename Some, int kIndices, typename Body, typename Close>
__device__ __forceinline__ void add_up(Sums& sums, std::int64_t first, std::int64_t end,
                                       std::int64_t stride, const Body& body, const Close& close) {
  for (std::int64_t index = first; index < end;) {
    Some some{};
    for (int i = 0; i < kIndices && index < end; ++i, index += stride) body(index, some);
    sums.add(close(some));
  }
}

// The terms and the loss of all entries' sums.
template <typename T>
__device__ void write_result(const LossForward& forward, Sums sums) {
  const LossArguments& arguments = forward.arguments;
  if (sums.known != sums.known) sums = {NAN, NAN, NAN, NAN};  // a value is not allowed
  const double unknown = static_cast<double>(arguments.entries.total) - sums.known;
  // Skipped terms: packs add to all of them.
  const EntryOptions<T>& options = options_in<T>(arguments);
  if (arguments.options.pseudo_weight == 0) sums.pseudo = 0;
  if (!options.strong) sums.consistency = 0;
  if (arguments.options.reduction == Reduction::kMean) {
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
    const double total = sums.bce + arguments.options.pseudo_weight * sums.pseudo +
                         arguments.options.consistency_weight * sums.consistency;
    *static_cast<T*>(forward.loss) = static_cast<T>(total);
  }
}

// From the sums of a block's threads to the result, which the block that ends last writes.
template <typename T, int kSize>
__device__ __forceinline__ void finish(const LossForward& forward, const Sums& of_thread) {
  const Sums sums = sum_of_block(of_thread);
  if constexpr (kSize == kThreadsOfOneBlock) {
    if (threadIdx.x == 0) write_result<T>(forward, sums);
  } else {
    __shared__ bool last;
    auto* partials = reinterpret_cast<Sums*>(forward.partials);
    // After the sums the number of blocks that are done, set to 0 before the launch.
    auto* finished = reinterpret_cast<unsigned int*>(partials + gridDim.x);
    if (threadIdx.x == 0) {
      partials[blockIdx.x] = sums;
      __threadfence();
      last = atomicAdd(finished, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    Sums all{};
    for (unsigned int block = threadIdx.x; block < gridDim.x; block += kSize)
      all.add(partials[block]);
    all = sum_of_block(all);
    if (threadIdx.x == 0) write_result<T>(forward, all);
  }
}

}  // namespace labelassemble::cuda
