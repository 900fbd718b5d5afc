// Loops over at most kBlock entries, without torch headers: these sources are compiled once for
// each instruction set, and what runs is chosen by torch's CPU capability (ATEN_CPU_CAPABILITY is
// honoured).
#pragma once

#include <cstdint>

#include "ops/element.h"

namespace labelassemble::cpu {

inline constexpr std::int64_t kBlock = 512;

// Which terms an entry can have: without the pseudo-label terms, without the strong view, all of
// them, and all of them with what is not the paper's (known entries of both views, `absent`).
enum class Terms { kKnownOnly, kWeak, kAll, kGeneral };

// What there is, with Terms::kGeneral.
struct GeneralTerms {
  bool both_views = false;   // known entries: the mean of both views
  bool unknown = false;      // any term of unknown entries
  bool consistency = false;  // that of the strong view
};

template <typename T>
struct LossConstants {
  T threshold;
  T inverse_temperature;
  T pseudo_weight;
  T consistency_weight;
};

template <typename T>
struct LossForwardBlock {
  Terms terms;
  LossConstants<T> constants;
  const T* weak;
  const T* strong;      // read with Terms::kAll, and as `general` says
  const T* targets;     // NaN: unknown
  const T* pos_weight;  // of each entry; null: 1, and then class_weight is null too
  const T* class_weight;
  T* entries;  // where to write the loss of each entry; null: sums only
  std::int64_t count;
  const T* absent = nullptr;  // not 0: an unknown entry whose pseudo-label is 0; null: none
  GeneralTerms general;
};

struct LossSums {
  double bce = 0;
  double pseudo = 0;
  double consistency = 0;
  std::int64_t known = 0;
  bool outside = false;  // a known target lies outside [0, 1]
};

template <typename T>
struct LossBackwardBlock {
  Terms terms;
  LossConstants<T> constants;  // the weights times the incoming gradient, over the counts
  T bce_weight;                // half of it with both views
  T target_slope;              // ds/da; 0 where s is a constant
  const T* weak;
  const T* strong;
  const T* targets;
  const T* pos_weight;
  const T*
      scale;  // of each entry: class weight times incoming gradient; null together with pos_weight
  T* grad_weak;
  T* grad_strong;  // written with Terms::kAll and kGeneral
  std::int64_t count;
  const T* absent = nullptr;
  GeneralTerms general;
};

// A block of positions with all their classes, each class kBlock entries after the one before.
template <typename T>
struct ExcludedBlock {
  std::int64_t classes;
  std::int64_t count;
  const T* logits;
  const T* targets;       // NaN: unknown
  T* present;             // to work in
  const bool* exclusive;  // [classes, classes]
  T threshold;
  unsigned char* absent;
};

struct ClassSums {
  double overlap = 0;    // of probability and target, over known entries
  double predicted = 0;  // of the probabilities of known entries
  double drawn = 0;      // of their targets
  std::int64_t known = 0;
  std::int64_t positive = 0;  // unknown entries with a probability above the threshold
  std::int64_t not_finite = 0;
};

template <typename T>
struct BlockKernelsOf {
  void (*loss_forward)(const LossForwardBlock<T>&, LossSums&);
  void (*loss_backward)(const LossBackwardBlock<T>&);
  // To and from T, `stride` in bytes. `load_target` makes NaN of an integer -1.
  void (*load)(T* to, const char* from, Element element, std::int64_t stride, std::int64_t count);
  void (*load_target)(T* to, const char* from, Element element, std::int64_t stride,
                      std::int64_t count);
  void (*store)(char* to, Element element, std::int64_t stride, const T* from, std::int64_t count);
  // Sums of relu: of one run, of each of `rows` rows that lie one after the other, of columns.
  T (*relu_sum)(const T* values, std::int64_t count);
  void (*relu_sum_rows)(T* sums, const T* values, std::int64_t rows, std::int64_t length);
  void (*relu_add_rows)(T* sums, const T* values, std::int64_t rows, std::int64_t stride,
                        std::int64_t count);
  // The gradient of values that are not negative or 0: of each value its own, or one for each row.
  void (*relu_spread)(T* to, const T* values, const T* grads, std::int64_t count);
  void (*relu_spread_rows)(T* to, const T* values, const T* grads, std::int64_t rows,
                           std::int64_t length);
  void (*excluded)(const ExcludedBlock<T>&);
  void (*class_sums)(const T* logits, const T* targets, T threshold, std::int64_t count,
                     ClassSums& sums);
  // The gradient of overlap and predicted of one class, times those two numbers.
  void (*class_sums_backward)(const T* logits, const T* targets, T overlap, T predicted,
                              std::int64_t count, T* grad);
};

struct BlockKernels {
  const char* capability;
  BlockKernelsOf<float> of_float;
  BlockKernelsOf<double> of_double;

  template <typename T>
  const BlockKernelsOf<T>& of() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return of_float;
    } else {
      return of_double;
    }
  }
};

// The widest of the compiled ones that the processor has and torch uses.
const BlockKernels& block_kernels();

}  // namespace labelassemble::cpu
