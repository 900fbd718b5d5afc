// The loss of an entry and its derivatives (arXiv 2109.12265, section 2.2), the same source for the
// CPU (V a vector of entries) and for CUDA (V a number). z: weak logit, zs: strong logit, y:
// target, a = sigmoid(z).
#pragma once

#include "ops/math.h"

namespace labelassemble {

template <typename V>
struct Probability {
  V tail;        // exp(-|z|), what the stable forms are made of
  V value;       // a = sigmoid(z)
  V complement;  // 1 - a, without cancellation
  V slope;       // da/dz = a (1 - a)
};

template <typename V>
LABELASSEMBLE_SHARED Probability<V> probability(V z) {
  const V tail = exp_nonpositive(minus_magnitude(z));
  const V larger = reciprocal(V(1) + tail);
  const V smaller = tail * larger;
  return {tail, select_negative(z, smaller, larger), select_negative(z, larger, smaller),
          larger * smaller};
}

// -(w+ y log a + (1 - y) log(1 - a)) = w+ y softplus(-z) + (1 - y) softplus(z). A weight of 0 takes
// its term away even where that is infinite: with y = 1 the loss at z = +inf is 0, not 0 * inf.
// Without w+ it is factor * z + log(1 + tail).
template <typename V>
LABELASSEMBLE_SHARED V bce_factor(V z, V y) {
  return select_negative(z, -y, V(1) - y);
}
template <typename V>
LABELASSEMBLE_SHARED V bce(V z, V tail, V y) {
  const V factor = bce_factor(z, y);
  return select(factor == V(0), V(0), factor * z) + log1p_unit(tail);
}
template <typename V>
LABELASSEMBLE_SHARED V bce(V z, V tail, V y, V pos_weight) {
  const V positive = pos_weight * y;
  const V negative = V(1) - y;
  const V factor = select_negative(z, -positive, negative);
  const V linear = select(factor == V(0), V(0), factor * z);
  return linear + (positive + negative) * log1p_unit(tail);
}

// d(bce)/dz = (1 - y) a - w+ y (1 - a)
template <typename V>
LABELASSEMBLE_SHARED V bce_slope(Probability<V> a, V y) {
  return (V(1) - y) * a.value - y * a.complement;
}
template <typename V>
LABELASSEMBLE_SHARED V bce_slope(Probability<V> a, V y, V pos_weight) {
  return (V(1) - y) * a.value - pos_weight * y * a.complement;
}

// Negative where a known target y lies outside [0, 1]; NaN where y is.
template <typename V>
LABELASSEMBLE_SHARED V target_margin(V y) {
  return y * (V(1) - y);
}

// How far below 0 the margin may be: sums of soft labels round to a little more than 1.
inline constexpr double kTargetRounding = 1e-6;

// How far sharpening moves a: a - s(a), where s(a) = a + (1 - a)/t above the threshold, else a -
// a/t.
template <typename V>
LABELASSEMBLE_SHARED V sharpening(Probability<V> a, V threshold, V inverse_temperature) {
  return select(a.value > threshold, -a.complement, a.value) * inverse_temperature;
}

// With move = a - s(a), k = ds/da (0 where s is taken as a constant) and gap = a_s - s(a):
// d(move^2)/dz = 2 move (1 - k) da/dz,  d(gap^2)/dz = -2 gap k da/dz,  d(gap^2)/dzs = 2 gap
// da_s/dzs.
template <typename V>
LABELASSEMBLE_SHARED V unknown_slope_weak(Probability<V> a, V move, V pseudo_weight) {
  return V(2) * pseudo_weight * move * a.slope;
}
template <typename V>
LABELASSEMBLE_SHARED V unknown_slope_weak(Probability<V> a, V move, V gap, V target_slope,
                                          V pseudo_weight, V consistency_weight) {
  const V descent =
      pseudo_weight * move * (V(1) - target_slope) - consistency_weight * gap * target_slope;
  return V(2) * descent * a.slope;
}
template <typename V>
LABELASSEMBLE_SHARED V unknown_slope_strong(Probability<V> a_strong, V gap, V consistency_weight) {
  return V(2) * consistency_weight * gap * a_strong.slope;
}

}  // namespace labelassemble
