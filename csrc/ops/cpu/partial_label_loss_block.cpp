// Blocks of the loss. Compiled once for each instruction set (LABELASSEMBLE_CAPABILITY).
//
// Tried, in ns for 16 entries, known and unknown at random, forward + backward (AVX-512, 3.6 GHz):
//   a plain loop for the compiler to vectorise (it does not)   400  + 400
//   vectors, exp as in Cephes, log1p of degree 8               21.6 + 19.7
//   1/x as a division, not an estimate and a Newton step       18.4 + 16.9
//   one fused product with ln2 in exp                          17.5 + 16.3
//   two vectors side by side                                   16.6 + 15.0
//   shorter exp, masks in mask registers                       14.7 + 12.8
//   one division for both views                                15.3 + 13.8
//   a logarithm of the product of a block's 1 + tail, and
//   sums by masked products (predicted: 15% of the forward)    11.8 + 12.5  <- this; before, in the
//                                                              same minute,   13.9 + 12.8
//   software prefetch 1 KiB ahead                              23.2 + 28.1  (from memory)
//   non-temporal stores                                        17.0 + 18.4  (18.0 + 17.0 without)
// Copying as many bytes as both passes move takes 17.2: products bound this, not memory.
#include "ops/cpu/partial_label_loss_block.h"

#include "ops/cpu/vector.h"
#include "ops/partial_label_loss_formula.h"

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {
namespace {

template <typename V>
struct Sums {
  V bce{0};  // or, without pos_weight and class_weight:
  V linear{0};
  V tails{0};  // the product of 1 + tail, less 1
  V strong_tails{0};
  V pseudo{0};
  V consistency{0};
  typename OneOf<V>::Type margin{0};  // the least of the known targets
};

// The cross-entropy of known entries of one view; returns that of each, or adds it up by its parts.
template <typename V, bool kWeighted, bool kEntries, typename Mask, typename T>
LABELASSEMBLE_INLINE inline V known_term(const LossForwardBlock<T>& block, std::int64_t i,
                                         Mask known, V z, V tail, V target, Sums<V>& sums,
                                         V& tails) {
  if constexpr (kWeighted) {
    return load_at<V>(block.class_weight + i) *
           bce(z, tail, target, load_at<V>(block.pos_weight + i));
  } else if constexpr (kEntries) {
    return bce(z, tail, target);
  } else {
    const V zero(0);
    const V factor = bce_factor(z, target);
    sums.linear = add_product_where(without(known, factor == zero), sums.linear, factor, z);
    tails = times_one_plus(tails, select(known, tail, zero));
    return zero;
  }
}

// How far from its pseudo-label an unknown entry is: a - s(a), or a where s is 0.
template <typename V, Terms kTerms, typename Block>
LABELASSEMBLE_INLINE inline V move_of(const Block& block, std::int64_t i, Probability<V> a) {
  const V move =
      sharpening(a, V(block.constants.threshold), V(block.constants.inverse_temperature));
  if constexpr (kTerms == Terms::kGeneral) {
    if (block.absent != nullptr) return select(load_at<V>(block.absent + i) > V(0), a.value, move);
  }
  return move;
}

// Entries i, i + 1, ... as many as V holds; returns how many of them are known. Where all are, or
// none is, the other kind's work is left out, and with it the strong view: masks of volumes are of
// one piece.
template <typename V, Terms kTerms, bool kWeighted, bool kEntries, typename T>
LABELASSEMBLE_INLINE inline std::int64_t forward_at(const LossForwardBlock<T>& block,
                                                    std::int64_t i, Sums<V>& sums) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(V) / sizeof(T));
  const V zero(0);
  const V z = load_at<V>(block.weak + i);
  const V target = load_at<V>(block.targets + i);
  const auto known = target == target;
  const std::int64_t known_count = count(known);
  const Probability<V> a = probability(z);
  V bce_term = zero;
  if (known_count != 0) {
    sums.margin = least_of(target_margin(target), sums.margin);
    bce_term =
        known_term<V, kWeighted, kEntries>(block, i, known, z, a.tail, target, sums, sums.tails);
    if constexpr (kTerms == Terms::kGeneral) {
      if (block.general.both_views) {
        const V zs = load_at<V>(block.strong + i);
        const V other = known_term<V, kWeighted, kEntries>(
            block, i, known, zs, probability(zs).tail, target, sums, sums.strong_tails);
        bce_term = V(T(0.5)) * (bce_term + other);
      }
    }
    if constexpr (kWeighted || kEntries) sums.bce = add_where(known, sums.bce, bce_term);
  }
  V unknown_term = zero;
  if constexpr (kTerms != Terms::kKnownOnly) {
    if (known_count != kSize && (kTerms != Terms::kGeneral || block.general.unknown)) {
      const auto unknown = negated(known);
      const V weight = kWeighted ? load_at<V>(block.class_weight + i) : V(1);
      const V move = move_of<V, kTerms>(block, i, a);
      const V weighted_move = weight * move;
      sums.pseudo = add_product_where(unknown, sums.pseudo, weighted_move, move);
      if constexpr (kEntries)
        unknown_term = V(block.constants.pseudo_weight) * weighted_move * move;
      if constexpr (kTerms == Terms::kAll || kTerms == Terms::kGeneral) {
        if (kTerms == Terms::kAll || block.general.consistency) {
          const V gap = probability(load_at<V>(block.strong + i)).value - (a.value - move);
          const V weighted_gap = weight * gap;
          sums.consistency = add_product_where(unknown, sums.consistency, weighted_gap, gap);
          if constexpr (kEntries) {
            unknown_term =
                unknown_term + V(block.constants.consistency_weight) * weighted_gap * gap;
          }
        }
      }
    }
  }
  if constexpr (kEntries) store_at(block.entries + i, select(known, bce_term, unknown_term));
  return known_count;
}

// The sum of log(1 + tail) of a block, whose product is less than 2^kBlock.
template <typename V, typename T>
double log_of_product(V tails, T rest) {
  const double product = times_one_plus(product_of(tails), static_cast<double>(rest));
  return product < 1 ? std::log1p(product) : std::log(1 + product);  // NaN stays
}

template <typename T, Terms kTerms, bool kWeighted, bool kEntries>
void forward(const LossForwardBlock<T>& block, LossSums& sums) {
  using V = Twice<Vector<T>>;
  Sums<V> of_vectors;
  Sums<T> of_rest;
  std::int64_t known = 0;
  std::int64_t i = 0;
  for (; i + V::kSize <= block.count; i += V::kSize) {
    known += forward_at<V, kTerms, kWeighted, kEntries>(block, i, of_vectors);
  }
  for (; i < block.count; ++i)
    known += forward_at<T, kTerms, kWeighted, kEntries>(block, i, of_rest);
  if constexpr (kWeighted || kEntries) {
    sums.bce += static_cast<double>(sum_of(of_vectors.bce) + of_rest.bce);
  } else {
    double bce = static_cast<double>(sum_of(of_vectors.linear) + of_rest.linear) +
                 log_of_product(of_vectors.tails, of_rest.tails);
    if constexpr (kTerms == Terms::kGeneral) {
      if (block.general.both_views) {
        bce += log_of_product(of_vectors.strong_tails, of_rest.strong_tails);
        bce *= 0.5;
      }
    }
    sums.bce += bce;
  }
  sums.pseudo += static_cast<double>(sum_of(of_vectors.pseudo) + of_rest.pseudo);
  sums.consistency += static_cast<double>(sum_of(of_vectors.consistency) + of_rest.consistency);
  sums.known += known;
  const T least(-kTargetRounding);
  sums.outside |= count(of_vectors.margin < Vector<T>(least)) != 0 || of_rest.margin < least;
}

template <typename V, Terms kTerms, bool kWeighted, bool kDetached, typename T>
LABELASSEMBLE_INLINE inline void backward_at(const LossBackwardBlock<T>& block, std::int64_t i) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(V) / sizeof(T));
  const V zero(0);
  const V target = load_at<V>(block.targets + i);
  const auto known = target == target;
  const std::int64_t known_count = count(known);
  const V weight = kWeighted ? load_at<V>(block.scale + i) : V(1);
  const Probability<V> a = probability(load_at<V>(block.weak + i));
  const auto slope_of_known = [&](Probability<V> of) {
    return V(block.bce_weight) * (kWeighted
                                      ? bce_slope(of, target, load_at<V>(block.pos_weight + i))
                                      : bce_slope(of, target));
  };
  V known_slope = zero;
  if (known_count != 0) known_slope = slope_of_known(a);
  V unknown_slope = zero;
  if constexpr (kTerms != Terms::kKnownOnly) {
    V strong_slope = zero;
    if (known_count != kSize && (kTerms != Terms::kGeneral || block.general.unknown)) {
      const V pseudo_weight(block.constants.pseudo_weight);
      const V consistency_weight(block.constants.consistency_weight);
      const V move = move_of<V, kTerms>(block, i, a);
      V gap = zero;
      if constexpr (kTerms == Terms::kAll || kTerms == Terms::kGeneral) {
        if (kTerms == Terms::kAll || block.general.consistency) {
          const Probability<V> a_strong = probability(load_at<V>(block.strong + i));
          gap = a_strong.value - (a.value - move);
          strong_slope =
              select(known, zero, weight * unknown_slope_strong(a_strong, gap, consistency_weight));
        }
      }
      V target_slope(block.target_slope);
      if constexpr (kTerms == Terms::kGeneral && !kDetached) {
        if (block.absent != nullptr)
          target_slope = select(load_at<V>(block.absent + i) > zero, zero, target_slope);
      }
      unknown_slope = kDetached ? unknown_slope_weak(a, move, pseudo_weight)
                                : unknown_slope_weak(a, move, gap, target_slope, pseudo_weight,
                                                     consistency_weight);
    }
    if constexpr (kTerms == Terms::kGeneral) {
      if (block.general.both_views && known_count != 0) {
        const Probability<V> a_strong = probability(load_at<V>(block.strong + i));
        strong_slope = select(known, weight * slope_of_known(a_strong), strong_slope);
      }
    }
    if constexpr (kTerms == Terms::kAll || kTerms == Terms::kGeneral)
      store_at(block.grad_strong + i, strong_slope);
  }
  store_at(block.grad_weak + i, weight * select(known, known_slope, unknown_slope));
}

template <typename T, Terms kTerms, bool kWeighted, bool kDetached>
void backward(const LossBackwardBlock<T>& block) {
  using V = Twice<Vector<T>>;
  std::int64_t i = 0;
  for (; i + V::kSize <= block.count; i += V::kSize)
    backward_at<V, kTerms, kWeighted, kDetached>(block, i);
  for (; i < block.count; ++i) backward_at<T, kTerms, kWeighted, kDetached>(block, i);
}

template <typename T, Terms kTerms>
void forward_of(const LossForwardBlock<T>& block, LossSums& sums) {
  if (block.pos_weight == nullptr) {
    block.entries == nullptr ? forward<T, kTerms, false, false>(block, sums)
                             : forward<T, kTerms, false, true>(block, sums);
  } else {
    block.entries == nullptr ? forward<T, kTerms, true, false>(block, sums)
                             : forward<T, kTerms, true, true>(block, sums);
  }
}

template <typename T, Terms kTerms>
void backward_of(const LossBackwardBlock<T>& block) {
  if (block.pos_weight == nullptr) {
    block.target_slope == T(0) ? backward<T, kTerms, false, true>(block)
                               : backward<T, kTerms, false, false>(block);
  } else {
    block.target_slope == T(0) ? backward<T, kTerms, true, true>(block)
                               : backward<T, kTerms, true, false>(block);
  }
}

}  // namespace

template <typename T>
void loss_forward(const LossForwardBlock<T>& block, LossSums& sums) {
  switch (block.terms) {
    case Terms::kKnownOnly:
      return forward_of<T, Terms::kKnownOnly>(block, sums);
    case Terms::kWeak:
      return forward_of<T, Terms::kWeak>(block, sums);
    case Terms::kAll:
      return forward_of<T, Terms::kAll>(block, sums);
    case Terms::kGeneral:
      return forward_of<T, Terms::kGeneral>(block, sums);
  }
}

template <typename T>
void loss_backward(const LossBackwardBlock<T>& block) {
  switch (block.terms) {
    case Terms::kKnownOnly:
      return backward_of<T, Terms::kKnownOnly>(block);
    case Terms::kWeak:
      return backward_of<T, Terms::kWeak>(block);
    case Terms::kAll:
      return backward_of<T, Terms::kAll>(block);
    case Terms::kGeneral:
      return backward_of<T, Terms::kGeneral>(block);
  }
}

template void loss_forward<float>(const LossForwardBlock<float>&, LossSums&);
template void loss_forward<double>(const LossForwardBlock<double>&, LossSums&);
template void loss_backward<float>(const LossBackwardBlock<float>&);
template void loss_backward<double>(const LossBackwardBlock<double>&);

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
