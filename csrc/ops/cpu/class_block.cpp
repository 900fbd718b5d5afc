// Blocks of excluded and class_sums. Compiled once for each instruction set.
#include "ops/cpu/class_block.h"

#include <limits>

#include "ops/cpu/vector.h"
#include "ops/partial_label_loss_formula.h"

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {
namespace {

// Calls run with as many entries as a vector holds, and with single ones for the rest.
template <typename T, typename Run>
LABELASSEMBLE_INLINE inline void for_vectors(std::int64_t count, const Run& run) {
  using V = Twice<Vector<T>>;
  std::int64_t i = 0;
  for (; i + V::kSize <= count; i += V::kSize) run.template operator()<V>(i);
  for (; i < count; ++i) run.template operator()<T>(i);
}

template <typename V>
struct Sums {
  V overlap{0};
  V predicted{0};
  V drawn{0};
};

template <typename V, typename T>
LABELASSEMBLE_INLINE inline void add_entries(const T* logits, const T* targets, T threshold,
                                             Sums<V>& sums, ClassSums& counts) {
  const V zero(0);
  const V z = load_at<V>(logits);
  const V y = load_at<V>(targets);
  const auto known = y == y;
  const V a = probability(z).value;
  sums.overlap = add_product_where(known, sums.overlap, a, y);
  sums.predicted = add_where(known, sums.predicted, a);
  sums.drawn = add_where(known, sums.drawn, y);
  counts.known += count(known);
  counts.positive += count(without(a > V(threshold), known));
  const V nothing = z - z;  // NaN where z is not finite
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(V) / sizeof(T));
  counts.not_finite += kSize - count(nothing == zero);
}

}  // namespace

template <typename T>
void excluded(const ExcludedBlock<T>& block) {
  const T none = -std::numeric_limits<T>::infinity();
  // The logit where a class is present, +inf where that is known, -inf where it is not present.
  for (std::int64_t c = 0; c < block.classes; ++c) {
    const T* const logits = block.logits + c * kBlock;
    const T* const targets = block.targets + c * kBlock;
    T* const present = block.present + c * kBlock;
    for_vectors<T>(block.count, [&]<typename V>(std::int64_t i) __attribute__((always_inline)) {
      const V z = load_at<V>(logits + i);
      const V y = load_at<V>(targets + i);
      const V threshold(block.threshold);
      const V called = select(probability(z).value > threshold, z, V(none));
      const V given = select(y > threshold, V(-none), V(none));
      store_at(present + i, select(y == y, given, called));
    });
  }
  for (std::int64_t c = 0; c < block.classes; ++c) {
    T highest[kBlock];
    for (std::int64_t i = 0; i < block.count; ++i) highest[i] = none;
    for (std::int64_t rival = 0; rival < block.classes; ++rival) {
      if (!block.exclusive[c * block.classes + rival]) continue;
      const T* const present = block.present + rival * kBlock;
      for (std::int64_t i = 0; i < block.count; ++i)
        highest[i] = present[i] > highest[i] ? present[i] : highest[i];
    }
    const T* const logits = block.logits + c * kBlock;
    const T* const targets = block.targets + c * kBlock;
    unsigned char* const absent = block.absent + c * kBlock;
    for (std::int64_t i = 0; i < block.count; ++i)
      absent[i] = static_cast<unsigned char>((highest[i] > logits[i]) & (targets[i] != targets[i]));
  }
}

template <typename T>
void class_sums(const T* logits, const T* targets, T threshold, std::int64_t entries,
                ClassSums& sums) {
  Sums<Twice<Vector<T>>> of_vectors;
  Sums<T> of_rest;
  for_vectors<T>(entries, [&]<typename V>(std::int64_t i) __attribute__((always_inline)) {
    if constexpr (sizeof(V) == sizeof(T)) {
      add_entries<V>(logits + i, targets + i, threshold, of_rest, sums);
    } else {
      add_entries<V>(logits + i, targets + i, threshold, of_vectors, sums);
    }
  });
  sums.overlap += static_cast<double>(sum_of(of_vectors.overlap) + of_rest.overlap);
  sums.predicted += static_cast<double>(sum_of(of_vectors.predicted) + of_rest.predicted);
  sums.drawn += static_cast<double>(sum_of(of_vectors.drawn) + of_rest.drawn);
}

// d(overlap sum(a y) + predicted sum(a))/dz = (overlap y + predicted) a (1 - a)
template <typename T>
void class_sums_backward(const T* logits, const T* targets, T overlap, T predicted,
                         std::int64_t entries, T* grad) {
  for_vectors<T>(entries, [&]<typename V>(std::int64_t i) __attribute__((always_inline)) {
    const V y = load_at<V>(targets + i);
    const V slope = (V(overlap) * y + V(predicted)) * probability(load_at<V>(logits + i)).slope;
    store_at(grad + i, select(y == y, slope, V(0)));
  });
}

template void excluded<float>(const ExcludedBlock<float>&);
template void excluded<double>(const ExcludedBlock<double>&);
template void class_sums<float>(const float*, const float*, float, std::int64_t, ClassSums&);
template void class_sums<double>(const double*, const double*, double, std::int64_t, ClassSums&);
template void class_sums_backward<float>(const float*, const float*, float, float, std::int64_t,
                                         float*);
template void class_sums_backward<double>(const double*, const double*, double, double,
                                          std::int64_t, double*);

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
