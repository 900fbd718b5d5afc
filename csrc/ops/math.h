// exp and log1p where the loss needs them, for a number (CUDA, the ends of blocks) and for a vector
// of numbers (ops/cpu/vector.h) by the same source.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__CUDACC__)
#define LABELASSEMBLE_SHARED static __host__ __device__ __forceinline__
#else
// Internal linkage and always inlined: a copy compiled for AVX-512 must never serve a caller that
// was compiled for less.
#define LABELASSEMBLE_SHARED [[gnu::always_inline]] static inline
#endif

namespace labelassemble {

template <typename V, typename = void>
struct ScalarOf {
  using Type = V;
};
template <typename V>
struct ScalarOf<V, std::void_t<typename V::Scalar>> {
  using Type = typename V::Scalar;
};

// What vector.h has for vectors.
LABELASSEMBLE_SHARED float select(bool condition, float a, float b) { return condition ? a : b; }
LABELASSEMBLE_SHARED double select(bool condition, double a, double b) { return condition ? a : b; }
// a where z is negative (-0 may be either, and so may NaN), else b.
LABELASSEMBLE_SHARED float select_negative(float z, float a, float b) { return z < 0 ? a : b; }
LABELASSEMBLE_SHARED double select_negative(double z, double a, double b) { return z < 0 ? a : b; }
LABELASSEMBLE_SHARED float minus_magnitude(float x) { return -fabsf(x); }
LABELASSEMBLE_SHARED double minus_magnitude(double x) { return -fabs(x); }
LABELASSEMBLE_SHARED double exp_each(double x) { return exp(x); }
LABELASSEMBLE_SHARED double log1p_each(double x) { return log1p(x); }

// a > b ? a : b, and so b where either is NaN.
LABELASSEMBLE_SHARED float larger(float a, float b) { return a > b ? a : b; }

// a < b ? a : b, and so b where either is NaN.
LABELASSEMBLE_SHARED float smaller(float a, float b) { return a < b ? a : b; }
LABELASSEMBLE_SHARED double smaller(double a, double b) { return a < b ? a : b; }

// 2^n, n + 127 in the lowest bits of `shifted`.
LABELASSEMBLE_SHARED float power_of_two(float shifted) {
  std::uint32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits <<= 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return power;
}

// 1/x for 1 <= x <= 2. On CUDA without the steps that are for other x: the loss of a float would
// else be bound by its instructions, not by memory, where that is as fast as on an H200.
template <typename V>
LABELASSEMBLE_SHARED V reciprocal(V x) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<V, float>) return __fdividef(1.0f, x);
#endif
  return V(1) / x;
}

// exp(x) for x <= 0, within 2.5 ulp above x = -20 and 5 below; 0 below the smallest normal float
// and at -inf, NaN at NaN. One polynomial degree more gives 1.5 ulp and costs 4% of the loss's
// forward.
template <typename V>
LABELASSEMBLE_SHARED V exp_nonpositive(V x) {
  if constexpr (std::is_same_v<typename ScalarOf<V>::Type, double>) {
    return exp_each(x);
  } else {
#if defined(__CUDA_ARCH__)
    return expf(x);
#else
    x = larger(V(-88.0f), x);  // where 2^n becomes 0
    // x = n ln2 + r, n rounded to nearest by the addition itself: no instruction beyond SSE2. The
    // 127 puts n into the lowest bits with the bias of a float's exponent.
    const V shifted = x * V(1.44269504f) + V(12582912.0f + 127.0f);  // 1.5 * 2^23
    const V n = shifted - V(12582912.0f + 127.0f);
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    const V r = x - n * V(0.693147182f);  // fused; float's ln2 is wrong by 2e-9 only
#else
    const V r = (x - n * V(0.693359375f)) + n * V(2.12194440e-4f);  // the first product is exact
#endif
    V q = V(8.290271274745464e-3f);  // exp(r) = 1 + r q(r)
    q = q * r + V(4.189816117286682e-2f);
    q = q * r + V(1.666763871908188e-1f);
    q = q * r + V(4.999914765357971e-1f);
    q = q * r + V(9.999997019767761e-1f);
    q = q * r + V(1.0f);
    return q * power_of_two(shifted);
#endif
  }
}

// log(1 + x) for 0 <= x <= 1, within 1.9 ulp of the result however small x is: x (1 + x q(x)).
template <typename V>
LABELASSEMBLE_SHARED V log1p_unit(V x) {
  if constexpr (std::is_same_v<typename ScalarOf<V>::Type, double>) {
    return log1p_each(x);
  } else {
    V q = V(5.364738870412111e-3f);
    q = q * x + V(-3.0065450817346573e-2f);
    q = q * x + V(7.920397818088531e-2f);
    q = q * x + V(-1.3753755390644073e-1f);
    q = q * x + V(1.915363371372223e-1f);
    q = q * x + V(-2.4857157468795776e-1f);
    q = q * x + V(3.33213210105896e-1f);
    q = q * x + V(-4.9999648332595825e-1f);
    return x * (q * x + V(1.0f));
  }
}

// (1 + product)(1 + x) - 1: sums of log(1 + x) are the logarithm of a product, which takes one step
// for each x where log1p_unit takes nine. Kept less the 1, so that small x are not lost in it.
template <typename V>
LABELASSEMBLE_SHARED V times_one_plus(V product, V x) {
  return product * x + (product + x);
}

}  // namespace labelassemble
