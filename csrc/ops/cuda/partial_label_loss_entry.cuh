// An entry of the loss on CUDA: how it is read, in any layout or in packs, and what it adds to the
// sums and to the gradients. The formulas are those of the CPU.
#pragma once

#include "ops/cuda/operand.cuh"
#include "ops/partial_label_loss_formula.h"

namespace labelassemble::cuda {

// A thread adds some entries in T, and those sums and threads in double.
template <typename T>
struct SumsOf {
  T bce;
  T pseudo;
  T consistency;
  T known;

  template <typename Other>
  __device__ __forceinline__ void add(const SumsOf<Other>& other) {
    bce += static_cast<T>(other.bce);
    pseudo += static_cast<T>(other.pseudo);
    consistency += static_cast<T>(other.consistency);
    known += static_cast<T>(other.known);
  }
};
using Sums = SumsOf<double>;

template <typename T>
__device__ __forceinline__ const EntryOptions<T>& options_in(const LossArguments& arguments) {
  if constexpr (std::is_same_v<T, double>) return arguments.options_in_double;
  if constexpr (std::is_same_v<T, float>) return arguments.options_in_float;
}

template <typename T>
__device__ __forceinline__ RefusedValues<T>* refused_in(Refused* refused) {
  if (refused == nullptr) return nullptr;
  if constexpr (std::is_same_v<T, double>) return &refused->in_double;
  if constexpr (std::is_same_v<T, float>) return &refused->in_float;
}

// What an entry is computed of; zs is 0 where there is no strong view.
template <typename T>
struct Entry {
  T z;
  T zs;
  T target;
  T pos_weight;
  T class_weight;
  bool absent;  // of an unknown entry: its pseudo-label is 0
};

template <typename T>
__device__ __forceinline__ bool is_weight(T value) {
  return value >= T(0) && value < T(INFINITY);
}

// Several threads may write, each a value that is not allowed: the host reads one of them.
template <typename T>
__device__ __forceinline__ void note(T& place, T value) {
  *static_cast<volatile T*>(&place) = value;
}

// Whether the entry's values are allowed; one that is not is noted.
template <typename T>
__device__ __forceinline__ bool is_allowed(const Entry<T>& entry, RefusedValues<T>& refused) {
  const bool outside = target_margin(entry.target) < T(-kTargetRounding);
  if (outside) note(refused.target, entry.target);
  const bool weights = is_weight(entry.pos_weight) && is_weight(entry.class_weight);
  if (!is_weight(entry.pos_weight)) note(refused.pos_weight, entry.pos_weight);
  if (!is_weight(entry.class_weight)) note(refused.class_weight, entry.class_weight);
  return !outside && weights;
}

// How far from its pseudo-label an unknown entry is: a - s(a), or a where s is 0.
template <typename T>
__device__ __forceinline__ T move_of(const EntryOptions<T>& options, const Entry<T>& entry,
                                     Probability<T> a) {
  return entry.absent ? a.value : sharpening(a, options.threshold, options.inverse_temperature);
}

template <typename T>
__device__ __forceinline__ T forward_entry(const EntryOptions<T>& options, const Entry<T>& entry,
                                           RefusedValues<T>* refused, SumsOf<T>& sums) {
  if (refused != nullptr && !is_allowed(entry, *refused)) {
    sums.known = T(NAN);  // and so is their total, which makes NaN of all terms
    return T(NAN);
  }
  const Probability<T> a = probability(entry.z);
  if (entry.target == entry.target) {
    T term = entry.class_weight * bce(entry.z, a.tail, entry.target, entry.pos_weight);
    if (options.both_views) {
      const T tail = probability(entry.zs).tail;
      term += entry.class_weight * bce(entry.zs, tail, entry.target, entry.pos_weight);
      term *= T(0.5);
    }
    sums.bce += term;
    sums.known += 1;
    return term;
  }
  if (!options.unknown) return T(0);
  const T move = move_of(options, entry, a);
  const T pseudo = entry.class_weight * move * move;
  sums.pseudo += pseudo;
  T total = options.pseudo_weight * pseudo;
  if (options.strong) {
    const T gap = probability(entry.zs).value - (a.value - move);
    const T consistency = entry.class_weight * gap * gap;
    sums.consistency += consistency;
    total += options.consistency_weight * consistency;
  }
  return total;
}

template <typename T>
struct Scales {
  T known;  // half of it with both views
  T pseudo;
  T consistency;
};

template <typename T>
struct Gradients {
  T weak = 0;
  T strong = 0;
};

template <typename T>
__device__ __forceinline__ Gradients<T> backward_entry(const EntryOptions<T>& options,
                                                       const Scales<T>& scales,
                                                       const Entry<T>& entry) {
  const Probability<T> a = probability(entry.z);
  if (entry.target == entry.target) {
    const T scale = entry.class_weight * scales.known;
    Gradients<T> known{scale * bce_slope(a, entry.target, entry.pos_weight), T(0)};
    if (options.both_views)
      known.strong = scale * bce_slope(probability(entry.zs), entry.target, entry.pos_weight);
    return known;
  }
  if (!options.unknown) return {};
  const T move = move_of(options, entry, a);
  T gap = 0;
  T strong = 0;
  if (options.strong) {
    const Probability<T> a_strong = probability(entry.zs);
    gap = a_strong.value - (a.value - move);
    strong = unknown_slope_strong(a_strong, gap, scales.consistency);
  }
  const T target_slope = entry.absent ? T(0) : options.target_slope;
  const T weak = target_slope == T(0) ? unknown_slope_weak(a, move, scales.pseudo)
                                      : unknown_slope_weak(a, move, gap, target_slope,
                                                           scales.pseudo, scales.consistency);
  return {entry.class_weight * weak, entry.class_weight * strong};
}

// The inputs of entry `index` in any layout, and its offsets in two more operands, which the pass
// writes or reads.
template <typename T>
__device__ __forceinline__ Entry<T> entry_at(const LossArguments& arguments, std::int64_t index,
                                             const Operand& first, const Operand& second,
                                             std::int64_t& first_offset,
                                             std::int64_t& second_offset) {
  const Entries& entries = arguments.entries;
  const std::int64_t* const strides[] = {arguments.weak.strides,
                                         arguments.strong.strides,
                                         arguments.targets.strides,
                                         arguments.pos_weight.strides,
                                         arguments.class_weight.strides,
                                         arguments.absent.strides,
                                         first.strides,
                                         second.strides};
  std::int64_t offsets[8];
  offsets_of(entries.sizes, entries.axes, index, strides, offsets);
  first_offset = offsets[6];
  second_offset = offsets[7];
  const auto read = [&](const Operand& operand, std::int64_t offset, T absent) {
    return operand.data == nullptr ? absent : load<T>(operand.data + offset, operand.element);
  };
  return {load<T>(arguments.weak.data + offsets[0], arguments.weak.element),
          read(arguments.strong, offsets[1], T(0)),
          load<T, true>(arguments.targets.data + offsets[2], arguments.targets.element),
          read(arguments.pos_weight, offsets[3], T(1)),
          read(arguments.class_weight, offsets[4], T(1)),
          arguments.absent.data != nullptr && arguments.absent.data[offsets[5]] != 0};
}

// A pack of flat operands.
template <typename T, typename L, typename Y, int kCount>
struct Packs {
  static constexpr int kEntries = kCount;
  T z[kCount];
  T zs[kCount] = {};
  T target[kCount];

  __device__ __forceinline__ Packs(const LossArguments& arguments, std::int64_t first) {
    load_pack<L, kCount>(arguments.weak.data, first, z);
    if (arguments.strong.data != nullptr) load_pack<L, kCount>(arguments.strong.data, first, zs);
    load_pack<Y, kCount>(arguments.targets.data, first, target);
  }
  __device__ __forceinline__ Entry<T> operator[](int i) const {
    return {z[i], zs[i], target[i], T(1), T(1), false};
  }
};

}  // namespace labelassemble::cuda
