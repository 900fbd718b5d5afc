// The loss of one entry and its derivatives (arXiv 2109.12265, section 2.2), the same source for the
// CPU and for CUDA. z: weak logit, zs: strong logit, y: target, a = sigmoid(z).
#pragma once

#include "ops/math.h"

namespace labelassemble {

template <typename T>
struct Probability {
  T tail;         // exp(-|z|), what the stable forms are made of
  T value;        // a = sigmoid(z)
  T complement;   // 1 - a, without cancellation
};

template <typename T>
LABELASSEMBLE_SHARED Probability<T> probability(T z) {
  const T tail = exp_nonpositive(z < T(0) ? z : -z);
  const T larger = T(1) / (T(1) + tail);
  const T smaller = tail * larger;
  const bool positive = z >= T(0);
  return {tail, positive ? larger : smaller, positive ? smaller : larger};
}

// -(w+ y log a + (1 - y) log(1 - a)) = w+ y softplus(-z) + (1 - y) softplus(z). A weight of 0 takes its
// term away even where that is infinite: with y = 1 the loss at z = +inf is 0, not 0 * inf.
template <typename T>
LABELASSEMBLE_SHARED T bce(T z, T tail, T y, T pos_weight) {
  const T positive = pos_weight * y;
  const T negative = T(1) - y;
  const T below = positive != T(0) && z < T(0) ? positive * -z : T(0);
  const T above = negative != T(0) && z > T(0) ? negative * z : T(0);
  return below + above + (positive + negative) * log1p_unit(tail);
}

// d(bce)/dz = (1 - y) a - w+ y (1 - a)
template <typename T>
LABELASSEMBLE_SHARED T bce_slope(const Probability<T>& a, T y, T pos_weight) {
  return (T(1) - y) * a.value - pos_weight * y * a.complement;
}

// How far sharpening moves a: a - s(a), where s(a) = a + (1 - a)/t above the threshold, else a - a/t.
template <typename T>
LABELASSEMBLE_SHARED T sharpening(const Probability<T>& a, T threshold, T inverse_temperature) {
  return (a.value > threshold ? -a.complement : a.value) * inverse_temperature;
}

// da/dz = a (1 - a)
template <typename T>
LABELASSEMBLE_SHARED T probability_slope(const Probability<T>& a) {
  return a.value * a.complement;
}

// With move = a - s(a), k = ds/da (0 where s is taken as a constant) and gap = a_s - s(a):
// d(move^2)/dz = 2 move (1 - k) da/dz,  d(gap^2)/dz = -2 gap k da/dz,  d(gap^2)/dzs = 2 gap da_s/dzs.
template <typename T>
struct UnknownSlopes {
  T weak;
  T strong;
};

template <typename T>
LABELASSEMBLE_SHARED UnknownSlopes<T> unknown_slopes(const Probability<T>& weak, const Probability<T>& strong,
                                                     T move, T gap, T target_slope, T pseudo_weight,
                                                     T consistency_weight) {
  const T through_target = target_slope != T(0) ? consistency_weight * gap * target_slope : T(0);
  return {T(2) * (pseudo_weight * move * (T(1) - target_slope) - through_target) * probability_slope(weak),
          T(2) * consistency_weight * gap * probability_slope(strong)};
}

}  // namespace labelassemble
