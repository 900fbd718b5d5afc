// Scalar functions that CPU kernels (where the compiler turns them into vectors) and CUDA kernels share.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define LABELASSEMBLE_SHARED static __host__ __device__ __forceinline__
#else
// Internal linkage and always inlined: a copy compiled for AVX-512 must never serve a caller that was
// compiled for less.
#define LABELASSEMBLE_SHARED [[gnu::always_inline]] static inline
#endif

namespace labelassemble {

// exp(x) for x <= 0; 0 below the smallest denormal, 0 at -inf, NaN at NaN. At most 1 ulp from float64.
LABELASSEMBLE_SHARED float exp_nonpositive(float x) {
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  x = x < -105.0f ? -105.0f : x;  // a NaN stays
  // x = n ln2 + r with n rounded to nearest by the float addition itself: no instruction beyond SSE2.
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23
  const float n = shifted - 12582912.0f;
  float r = n * -0.693359375f + x;  // ln2 in two parts, the first exact
  r = n * 2.12194440e-4f + r;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r;
  p = p + 1.0f;
  // 2^(n + 64) is always normal; the last product rounds once into the denormals.
  std::int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + (127 + 64)) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale * 5.42101086e-20f;  // 2^-64
#endif
}

LABELASSEMBLE_SHARED double exp_nonpositive(double x) { return exp(x); }

// log(1 + x) for 0 <= x <= 1, relative to the result: x (1 + x q(x)), q of degree 8. At most 2.1 ulp.
LABELASSEMBLE_SHARED float log1p_unit(float x) {
  float q = -0.003318420145660639f;
  q = q * x + 0.020204348489642143f;
  q = q * x + -0.05766400322318077f;
  q = q * x + 0.10680510848760605f;
  q = q * x + -0.15355369448661804f;
  q = q * x + 0.1969539225101471f;
  q = q * x + -0.2495858520269394f;
  q = q * x + 0.33330512046813965f;
  q = q * x + -0.4999993145465851f;
  return x * (q * x + 1.0f);
}

LABELASSEMBLE_SHARED double log1p_unit(double x) { return log1p(x); }

}  // namespace labelassemble
