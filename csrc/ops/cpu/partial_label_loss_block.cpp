// Blocks of the loss. Compiled once for each instruction set (LABELASSEMBLE_CAPABILITY).
#include "ops/cpu/partial_label_loss_block.h"

#include "ops/partial_label_loss_formula.h"

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {
namespace {

template <typename T, Terms kTerms, bool kWeighted, bool kEntries>
void forward(const LossForwardBlock<T>& block, LossSums& sums) {
  const T* __restrict weak = block.weak;
  const T* __restrict strong = block.strong;
  const T* __restrict targets = block.targets;
  const T* __restrict pos_weight = block.pos_weight;
  const T* __restrict class_weight = block.class_weight;
  T* __restrict entries = block.entries;
  const LossConstants<T> constants = block.constants;
  T bce_sum = 0;
  T pseudo_sum = 0;
  T consistency_sum = 0;
  T known_count = 0;
#pragma omp simd reduction(+ : bce_sum, pseudo_sum, consistency_sum, known_count)
  for (std::int64_t i = 0; i < block.count; ++i) {
    const T z = weak[i];
    const bool known = targets[i] == targets[i];
    const T y = known ? targets[i] : T(0);
    const T weight = kWeighted ? class_weight[i] : T(1);
    const Probability<T> a = probability(z);
    const T bce_term = weight * bce(z, a.tail, y, kWeighted ? pos_weight[i] : T(1));
    T pseudo_term = 0;
    T consistency_term = 0;
    if constexpr (kTerms != Terms::kKnownOnly) {
      const T move = sharpening(a, constants.threshold, constants.inverse_temperature);
      pseudo_term = weight * move * move;
      if constexpr (kTerms == Terms::kAll) {
        const T gap = probability(strong[i]).value - (a.value - move);
        consistency_term = weight * gap * gap;
      }
    }
    bce_sum += known ? bce_term : T(0);
    pseudo_sum += known ? T(0) : pseudo_term;
    consistency_sum += known ? T(0) : consistency_term;
    known_count += known ? T(1) : T(0);
    if constexpr (kEntries) {
      entries[i] = known ? bce_term
                         : constants.pseudo_weight * pseudo_term + constants.consistency_weight * consistency_term;
    }
  }
  sums.bce += static_cast<double>(bce_sum);
  sums.pseudo += static_cast<double>(pseudo_sum);
  sums.consistency += static_cast<double>(consistency_sum);
  sums.known += static_cast<std::int64_t>(known_count);
}

template <typename T, Terms kTerms, bool kWeighted>
void backward(const LossBackwardBlock<T>& block) {
  const T* __restrict weak = block.weak;
  const T* __restrict strong = block.strong;
  const T* __restrict targets = block.targets;
  const T* __restrict pos_weight = block.pos_weight;
  const T* __restrict scale = block.scale;
  T* __restrict grad_weak = block.grad_weak;
  T* __restrict grad_strong = block.grad_strong;
  const LossConstants<T> constants = block.constants;
  const T bce_weight = block.bce_weight;
  const T target_slope = block.target_slope;
#pragma omp simd
  for (std::int64_t i = 0; i < block.count; ++i) {
    const bool known = targets[i] == targets[i];
    const T y = known ? targets[i] : T(0);
    const Probability<T> a = probability(weak[i]);
    const T known_slope = bce_weight * bce_slope(a, y, kWeighted ? pos_weight[i] : T(1));
    UnknownSlopes<T> unknown{T(0), T(0)};
    if constexpr (kTerms != Terms::kKnownOnly) {
      const T move = sharpening(a, constants.threshold, constants.inverse_temperature);
      Probability<T> a_strong{};
      T gap = 0;
      if constexpr (kTerms == Terms::kAll) {
        a_strong = probability(strong[i]);
        gap = a_strong.value - (a.value - move);
      }
      unknown = unknown_slopes(a, a_strong, move, gap, target_slope, constants.pseudo_weight,
                               constants.consistency_weight);
    }
    const T weight = kWeighted ? scale[i] : T(1);
    grad_weak[i] = weight * (known ? known_slope : unknown.weak);
    if constexpr (kTerms == Terms::kAll) {
      grad_strong[i] = known ? T(0) : weight * unknown.strong;
    }
  }
}

template <typename T, Terms kTerms>
void forward_of_terms(const LossForwardBlock<T>& block, LossSums& sums) {
  if (block.pos_weight == nullptr) {
    block.entries == nullptr ? forward<T, kTerms, false, false>(block, sums)
                             : forward<T, kTerms, false, true>(block, sums);
  } else {
    block.entries == nullptr ? forward<T, kTerms, true, false>(block, sums)
                             : forward<T, kTerms, true, true>(block, sums);
  }
}

template <typename T, Terms kTerms>
void backward_of_terms(const LossBackwardBlock<T>& block) {
  block.pos_weight == nullptr ? backward<T, kTerms, false>(block) : backward<T, kTerms, true>(block);
}

}  // namespace

template <typename T>
void loss_forward(const LossForwardBlock<T>& block, LossSums& sums) {
  switch (block.terms) {
    case Terms::kKnownOnly:
      return forward_of_terms<T, Terms::kKnownOnly>(block, sums);
    case Terms::kWeak:
      return forward_of_terms<T, Terms::kWeak>(block, sums);
    case Terms::kAll:
      return forward_of_terms<T, Terms::kAll>(block, sums);
  }
}

template <typename T>
void loss_backward(const LossBackwardBlock<T>& block) {
  switch (block.terms) {
    case Terms::kKnownOnly:
      return backward_of_terms<T, Terms::kKnownOnly>(block);
    case Terms::kWeak:
      return backward_of_terms<T, Terms::kWeak>(block);
    case Terms::kAll:
      return backward_of_terms<T, Terms::kAll>(block);
  }
}

template void loss_forward<float>(const LossForwardBlock<float>&, LossSums&);
template void loss_forward<double>(const LossForwardBlock<double>&, LossSums&);
template void loss_backward<float>(const LossBackwardBlock<float>&);
template void loss_backward<double>(const LossBackwardBlock<double>&);

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
