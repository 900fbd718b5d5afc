// What most trainings ask for, in a third of the instructions: flat operands computed in float, one
// loss for the batch, pseudo-labels taken as constants. Written without a branch between known and
// unknown entries, since the 32 of a warp are of both kinds and take both sides: an entry adds to
// both terms, each time under a predicate. exp and 1/x are those of the special function unit.
//
// exp2(x) for |x| < 12 is within 3 ulp of float; at x = -126 the rounding of the product with log2
// e makes that 40 (2.4e-6), of a probability of 1e-38.
#pragma once

#include "ops/cuda/partial_label_loss_entry.cuh"

namespace labelassemble::cuda {

#if defined(__CUDACC__)
__device__ __forceinline__ float exp2_approximate(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
__device__ __forceinline__ float reciprocal_approximate(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
// The larger one, NaN where either is.
__device__ __forceinline__ float larger_or_nan(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}
#else
inline float exp2_approximate(float x) { return exp2f(x); }
inline float reciprocal_approximate(float x) { return 1 / x; }
inline float larger_or_nan(float a, float b) { return a != a || a > b ? a : b; }
#endif

// e^-z
__device__ __forceinline__ float exp_minus(float z) { return exp2_approximate(-1.44269504f * z); }

// Sums of some entries in float. product: of 1 + e^-|z| over the known ones, less 1, so that their
// logarithms take one at the end (times_one_plus); of 32 entries it is below 2^32, or 2^64 with
// both views.
struct FlatSums {
  float linear = 0;
  float product = 0;
  float pseudo = 0;
  float consistency = 0;
  float known = 0;

  template <bool kBothViews>
  __device__ __forceinline__ SumsOf<float> close() const {
    const float bce = linear + log1pf(product);
    return {kBothViews ? 0.5f * bce : bce, pseudo, consistency, known};
  }
};

// The cross-entropy of a known entry: ([z >= 0] - y) z + log(1 + e^-|z|), the second part for
// `product`. Where the factor is 0 nothing is added, even if z is infinite.
__device__ __forceinline__ void add_known(FlatSums& sums, bool known, float z, float tail,
                                          float target) {
  const float factor = (z < 0 ? 0.0f : 1.0f) - target;
  if (fabsf(factor) > 0) sums.linear += factor * z;  // false of unknown ones: their factor is NaN
  if (known) sums.product = times_one_plus(sums.product, tail);
}

template <bool kBothViews>
__device__ __forceinline__ void add_flat(const EntryOptions<float>& options, float z, float zs,
                                         float target, FlatSums& sums) {
  const bool known = target == target;
  const float weak = exp_minus(known ? fabsf(z) : z);
  const float strong = exp_minus(kBothViews && known ? fabsf(zs) : zs);
  add_known(sums, known, z, weak, target);
  if constexpr (kBothViews) add_known(sums, known, zs, strong, target);
  if (known) sums.known += 1;
  // Of an unknown one: a = 1 / (1 + e^-z), and 1 - a = e^-z a where a is above the threshold.
  const float a = reciprocal_approximate(1 + weak);
  const float move = options.inverse_temperature * (a > options.threshold ? -(weak * a) : a);
  const float gap = reciprocal_approximate(1 + strong) - a + move;
  if (!known) sums.pseudo += move * move;
  if (!known) sums.consistency += gap * gap;
}

// Whether each of the targets is allowed or NaN.
template <int kCount>
__device__ __forceinline__ bool are_allowed(const float (&targets)[kCount]) {
  bool allowed = true;
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    allowed &= !(target_margin(targets[i]) < static_cast<float>(-kTargetRounding));
  return allowed;
}

// The gradients of an entry whose pseudo-label is a constant.
template <bool kBothViews>
__device__ __forceinline__ Gradients<float> flat_slopes(const EntryOptions<float>& options,
                                                        const Scales<float>& scales, float z,
                                                        float zs, float target) {
  // e^-z stays finite, so that e^-z a is 1 - a everywhere.
  const float weak = exp_minus(larger_or_nan(z, -87.0f));
  const float strong = exp_minus(larger_or_nan(zs, -87.0f));
  const float a = reciprocal_approximate(1 + weak);
  const float a_strong = reciprocal_approximate(1 + strong);
  const float complement = weak * a;
  const float complement_strong = strong * a_strong;
  const float move = options.inverse_temperature * (a > options.threshold ? -complement : a);
  const float gap = a_strong - a + move;
  const bool known = target == target;
  const float negative = 1 - target;
  const float of_weak = known ? scales.known * (negative * a - target * complement)
                              : 2 * scales.pseudo * move * (a * complement);
  const float of_known_strong =
      kBothViews ? scales.known * (negative * a_strong - target * complement_strong) : 0.0f;
  // Without the consistency term the scale is 0, which would leave a NaN what it is.
  const float of_unknown_strong =
      !kBothViews || options.strong ? 2 * scales.consistency * gap * (a_strong * complement_strong)
                                    : 0.0f;
  return {of_weak, known ? of_known_strong : of_unknown_strong};
}

}  // namespace labelassemble::cuda
