// As many floats or doubles as the instruction set's registers hold, with the operators of the
// shared formulas. Written with GCC's and Clang's vector extension, as GCC 12 did not vectorise
// loops over the formulas by itself
// ("no vectype": 25 ns an entry, against 1 here).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ops/math.h"

#define LABELASSEMBLE_INLINE [[gnu::always_inline]]

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

// GCC 12 takes the attribute only on a type that is not a template's argument.
template <typename T>
struct Registers;
template <>
struct Registers<float> {
  typedef float Lanes __attribute__((vector_size(kVectorBytes)));
  typedef std::int32_t Bits __attribute__((vector_size(kVectorBytes)));
#if defined(__AVX512F__)
  using Mask = __mmask16;
  template <int kPredicate>
  LABELASSEMBLE_INLINE static Mask compare(Lanes a, Lanes b) {
    return _mm512_cmp_ps_mask(a, b, kPredicate);
  }
  LABELASSEMBLE_INLINE static Lanes blend(Mask mask, Lanes a, Lanes b) {
    return _mm512_mask_blend_ps(mask, b, a);
  }
  LABELASSEMBLE_INLINE static Lanes larger(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
  LABELASSEMBLE_INLINE static Lanes smaller(Lanes a, Lanes b) { return _mm512_min_ps(a, b); }
  LABELASSEMBLE_INLINE static Lanes add_where(Mask mask, Lanes sum, Lanes x) {
    return _mm512_mask_add_ps(sum, mask, sum, x);
  }
  LABELASSEMBLE_INLINE static Lanes add_product_where(Mask mask, Lanes sum, Lanes a, Lanes b) {
    return _mm512_mask3_fmadd_ps(a, b, sum, mask);
  }
#else
  using Mask = Bits;
#if defined(__AVX2__)  // GCC 12 takes three instructions for the comparison with a constant
  LABELASSEMBLE_INLINE static Lanes larger(Lanes a, Lanes b) { return _mm256_max_ps(a, b); }
#endif
#endif
};
template <>
struct Registers<double> {
  typedef double Lanes __attribute__((vector_size(kVectorBytes)));
  typedef std::int64_t Bits __attribute__((vector_size(kVectorBytes)));
#if defined(__AVX512F__)
  using Mask = __mmask8;
  template <int kPredicate>
  LABELASSEMBLE_INLINE static Mask compare(Lanes a, Lanes b) {
    return _mm512_cmp_pd_mask(a, b, kPredicate);
  }
  LABELASSEMBLE_INLINE static Lanes blend(Mask mask, Lanes a, Lanes b) {
    return _mm512_mask_blend_pd(mask, b, a);
  }
  LABELASSEMBLE_INLINE static Lanes larger(Lanes a, Lanes b) { return _mm512_max_pd(a, b); }
  LABELASSEMBLE_INLINE static Lanes smaller(Lanes a, Lanes b) { return _mm512_min_pd(a, b); }
  LABELASSEMBLE_INLINE static Lanes add_where(Mask mask, Lanes sum, Lanes x) {
    return _mm512_mask_add_pd(sum, mask, sum, x);
  }
  LABELASSEMBLE_INLINE static Lanes add_product_where(Mask mask, Lanes sum, Lanes a, Lanes b) {
    return _mm512_mask3_fmadd_pd(a, b, sum, mask);
  }
#else
  using Mask = Bits;
#endif
};

template <typename T>
struct Vector {
  using Scalar = T;
  using Lanes = typename Registers<T>::Lanes;
  using Bits = typename Registers<T>::Bits;
  using Mask = typename Registers<T>::Mask;
  static constexpr std::int64_t kSize = kVectorBytes / static_cast<std::int64_t>(sizeof(T));

  Lanes lanes;

  LABELASSEMBLE_INLINE Vector(Lanes value) : lanes(value) {}
  LABELASSEMBLE_INLINE explicit Vector(T value) : lanes(value - Lanes{}) {}
  LABELASSEMBLE_INLINE static Vector load(const T* from) {
    Lanes lanes;
    std::memcpy(&lanes, from, sizeof lanes);
    return {lanes};
  }
  LABELASSEMBLE_INLINE void store(T* to) const { std::memcpy(to, &lanes, sizeof lanes); }

  LABELASSEMBLE_INLINE friend Vector operator+(Vector a, Vector b) { return {a.lanes + b.lanes}; }
  LABELASSEMBLE_INLINE friend Vector operator-(Vector a, Vector b) { return {a.lanes - b.lanes}; }
  LABELASSEMBLE_INLINE friend Vector operator*(Vector a, Vector b) { return {a.lanes * b.lanes}; }
  LABELASSEMBLE_INLINE friend Vector operator/(Vector a, Vector b) { return {a.lanes / b.lanes}; }
  LABELASSEMBLE_INLINE friend Vector operator-(Vector a) { return {-a.lanes}; }
#if defined(__AVX512F__)
  // Masks of their own: from the vector extension GCC 12 makes a second comparison for every
  // negated use.
  LABELASSEMBLE_INLINE friend Mask operator<(Vector a, Vector b) {
    return Registers<T>::template compare<_CMP_LT_OQ>(a.lanes, b.lanes);
  }
  LABELASSEMBLE_INLINE friend Mask operator<=(Vector a, Vector b) {
    return Registers<T>::template compare<_CMP_LE_OQ>(a.lanes, b.lanes);
  }
  LABELASSEMBLE_INLINE friend Mask operator>(Vector a, Vector b) { return b < a; }
  LABELASSEMBLE_INLINE friend Mask operator==(Vector a, Vector b) {
    return Registers<T>::template compare<_CMP_EQ_OQ>(a.lanes, b.lanes);
  }
  LABELASSEMBLE_INLINE friend Vector select(Mask mask, Vector a, Vector b) {
    return {Registers<T>::blend(mask, a.lanes, b.lanes)};
  }
  LABELASSEMBLE_INLINE friend Vector larger(Vector a, Vector b) {
    return {Registers<T>::larger(a.lanes, b.lanes)};
  }
  LABELASSEMBLE_INLINE friend Vector smaller(Vector a, Vector b) {
    return {Registers<T>::smaller(a.lanes, b.lanes)};
  }
  LABELASSEMBLE_INLINE friend Vector add_where(Mask mask, Vector sum, Vector x) {
    return {Registers<T>::add_where(mask, sum.lanes, x.lanes)};
  }
  LABELASSEMBLE_INLINE friend Vector add_product_where(Mask mask, Vector sum, Vector a, Vector b) {
    return {Registers<T>::add_product_where(mask, sum.lanes, a.lanes, b.lanes)};
  }
#else
  LABELASSEMBLE_INLINE friend Mask operator<(Vector a, Vector b) { return a.lanes < b.lanes; }
  LABELASSEMBLE_INLINE friend Mask operator<=(Vector a, Vector b) { return a.lanes <= b.lanes; }
  LABELASSEMBLE_INLINE friend Mask operator>(Vector a, Vector b) { return a.lanes > b.lanes; }
  LABELASSEMBLE_INLINE friend Mask operator==(Vector a, Vector b) { return a.lanes == b.lanes; }
  LABELASSEMBLE_INLINE friend Vector select(Mask mask, Vector a, Vector b) {
    return {mask ? a.lanes : b.lanes};
  }
  LABELASSEMBLE_INLINE friend Vector larger(Vector a, Vector b) {
    if constexpr (requires { Registers<T>::larger(a.lanes, b.lanes); }) {
      return {Registers<T>::larger(a.lanes, b.lanes)};
    } else {
      return {a.lanes > b.lanes ? a.lanes : b.lanes};
    }
  }
  LABELASSEMBLE_INLINE friend Vector smaller(Vector a, Vector b) {
    return {a.lanes < b.lanes ? a.lanes : b.lanes};
  }
  LABELASSEMBLE_INLINE friend Vector add_where(Mask mask, Vector sum, Vector x) {
    return {sum.lanes + (mask ? x.lanes : Lanes{})};
  }
  LABELASSEMBLE_INLINE friend Vector add_product_where(Mask mask, Vector sum, Vector a, Vector b) {
    return add_where(mask, sum, a * b);
  }
#endif

  LABELASSEMBLE_INLINE friend Vector select_negative(Vector z, Vector a, Vector b) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    // By the sign's bit, without a comparison.
    if constexpr (std::is_same_v<T, float>) return {_mm256_blendv_ps(b.lanes, a.lanes, z.lanes)};
#endif
    return select(z < Vector(0), a, b);
  }

  LABELASSEMBLE_INLINE friend Vector power_of_two(Vector shifted) {
    return {reinterpret_cast<Lanes>(reinterpret_cast<Bits>(shifted.lanes) << 23)};
  }
  LABELASSEMBLE_INLINE friend Vector minus_magnitude(Vector x) {
    constexpr auto kSign = std::numeric_limits<std::remove_reference_t<decltype(Bits{}[0])>>::min();
    return {reinterpret_cast<Lanes>(reinterpret_cast<Bits>(x.lanes) | kSign)};
  }
  // One number after the other: double is for checks, and for those who ask for it.
  LABELASSEMBLE_INLINE friend Vector exp_each(Vector x) {
    for (std::int64_t i = 0; i < kSize; ++i) x.lanes[i] = std::exp(x.lanes[i]);
    return x;
  }
  LABELASSEMBLE_INLINE friend Vector log1p_each(Vector x) {
    for (std::int64_t i = 0; i < kSize; ++i) x.lanes[i] = std::log1p(x.lanes[i]);
    return x;
  }
};

// Masks of a number, a vector, two vectors: how many conditions hold, the contrary, the first and
// not the second.
LABELASSEMBLE_INLINE inline std::int64_t count(bool condition) { return condition; }
LABELASSEMBLE_INLINE inline bool negated(bool mask) { return !mask; }
LABELASSEMBLE_INLINE inline bool without(bool mask, bool other) { return mask && !other; }
LABELASSEMBLE_INLINE inline float add_where(bool mask, float sum, float x) {
  return mask ? sum + x : sum;
}
LABELASSEMBLE_INLINE inline double add_where(bool mask, double sum, double x) {
  return mask ? sum + x : sum;
}
template <typename T>
LABELASSEMBLE_INLINE inline T add_product_where(bool mask, T sum, T a, T b) {
  return add_where(mask, sum, a * b);
}
template <typename Mask>
LABELASSEMBLE_INLINE inline Mask negated(Mask mask)
  requires(!std::is_class_v<Mask>)
{
  return static_cast<Mask>(~mask);
}
template <typename Mask>
LABELASSEMBLE_INLINE inline Mask without(Mask mask, Mask other)
  requires(!std::is_class_v<Mask>)
{
  return static_cast<Mask>(mask & ~other);
}
#if defined(__AVX512F__)
LABELASSEMBLE_INLINE inline std::int64_t count(__mmask16 mask) { return __builtin_popcount(mask); }
LABELASSEMBLE_INLINE inline std::int64_t count(__mmask8 mask) { return __builtin_popcount(mask); }
#else
template <typename T>
LABELASSEMBLE_INLINE inline std::int64_t count_lanes(typename Registers<T>::Bits mask) {
#if defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>)
    return __builtin_popcount(_mm256_movemask_ps(reinterpret_cast<__m256>(mask)));
  if constexpr (std::is_same_v<T, double>)
    return __builtin_popcount(_mm256_movemask_pd(reinterpret_cast<__m256d>(mask)));
#endif
  std::int64_t holding = 0;
  for (std::int64_t i = 0; i < Vector<T>::kSize; ++i) holding -= mask[i];  // -1 where it holds
  return holding;
}
LABELASSEMBLE_INLINE inline std::int64_t count(Registers<float>::Bits mask) {
  return count_lanes<float>(mask);
}
LABELASSEMBLE_INLINE inline std::int64_t count(Registers<double>::Bits mask) {
  return count_lanes<double>(mask);
}
#endif

// Lanes by halves: fewer steps that wait for each other than one lane after the other.
template <typename T>
LABELASSEMBLE_INLINE inline T sum_of(Vector<T> vector) {
  constexpr std::int64_t kSize = Vector<T>::kSize;
  T lanes[kSize];
  vector.store(lanes);
  for (std::int64_t half = kSize / 2; half > 0; half /= 2) {
    for (std::int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// The product of 1 + lane, less 1. In double, as the product of a block's lanes is beyond float.
template <typename T>
LABELASSEMBLE_INLINE inline double product_of(Vector<T> vector) {
  constexpr std::int64_t kSize = Vector<T>::kSize;
  double lanes[kSize];
  for (std::int64_t i = 0; i < kSize; ++i) lanes[i] = static_cast<double>(vector.lanes[i]);
  for (std::int64_t half = kSize / 2; half > 0; half /= 2) {
    for (std::int64_t i = 0; i < half; ++i) lanes[i] = times_one_plus(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}

// Two vectors side by side. The formulas are long chains of dependent operations, and a processor
// looks only so far ahead: two interleaved chains keep its units busy.
template <typename V>
struct Twice {
  using Scalar = typename V::Scalar;
  struct Mask {
    typename V::Mask first;
    typename V::Mask second;
  };
  static constexpr std::int64_t kSize = 2 * V::kSize;

  V first;
  V second;

  LABELASSEMBLE_INLINE Twice(V a, V b) : first(a), second(b) {}
  LABELASSEMBLE_INLINE explicit Twice(Scalar value) : first(value), second(value) {}
  LABELASSEMBLE_INLINE static Twice load(const Scalar* from) {
    return {V::load(from), V::load(from + V::kSize)};
  }
  LABELASSEMBLE_INLINE void store(Scalar* to) const {
    first.store(to);
    second.store(to + V::kSize);
  }

#define LABELASSEMBLE_TWICE(Result, operation)                              \
  LABELASSEMBLE_INLINE friend Result operator operation(Twice a, Twice b) { \
    return {a.first operation b.first, a.second operation b.second};        \
  }
  LABELASSEMBLE_TWICE(Twice, +)
  LABELASSEMBLE_TWICE(Twice, -)
  LABELASSEMBLE_TWICE(Twice, *)
  LABELASSEMBLE_TWICE(Twice, /)
  LABELASSEMBLE_TWICE(Mask, <)
  LABELASSEMBLE_TWICE(Mask, >)
  LABELASSEMBLE_TWICE(Mask, ==)
#undef LABELASSEMBLE_TWICE
  LABELASSEMBLE_INLINE friend Twice operator-(Twice a) { return {-a.first, -a.second}; }
  LABELASSEMBLE_INLINE friend Twice select(Mask mask, Twice a, Twice b) {
    return {select(mask.first, a.first, b.first), select(mask.second, a.second, b.second)};
  }
  LABELASSEMBLE_INLINE friend Twice larger(Twice a, Twice b) {
    return {larger(a.first, b.first), larger(a.second, b.second)};
  }
  LABELASSEMBLE_INLINE friend Twice power_of_two(Twice shifted) {
    return {power_of_two(shifted.first), power_of_two(shifted.second)};
  }
  LABELASSEMBLE_INLINE friend Twice minus_magnitude(Twice x) {
    return {minus_magnitude(x.first), minus_magnitude(x.second)};
  }
  LABELASSEMBLE_INLINE friend Twice exp_each(Twice x) {
    return {exp_each(x.first), exp_each(x.second)};
  }
  LABELASSEMBLE_INLINE friend Twice log1p_each(Twice x) {
    return {log1p_each(x.first), log1p_each(x.second)};
  }
  LABELASSEMBLE_INLINE friend Twice select_negative(Twice z, Twice a, Twice b) {
    return {select_negative(z.first, a.first, b.first),
            select_negative(z.second, a.second, b.second)};
  }
  LABELASSEMBLE_INLINE friend std::int64_t count(Mask mask) {
    return count(mask.first) + count(mask.second);
  }
  LABELASSEMBLE_INLINE friend Mask negated(Mask mask) {
    return {negated(mask.first), negated(mask.second)};
  }
  LABELASSEMBLE_INLINE friend Mask without(Mask mask, Mask other) {
    return {without(mask.first, other.first), without(mask.second, other.second)};
  }
  LABELASSEMBLE_INLINE friend Twice add_where(Mask mask, Twice sum, Twice x) {
    return {add_where(mask.first, sum.first, x.first),
            add_where(mask.second, sum.second, x.second)};
  }
  LABELASSEMBLE_INLINE friend Twice add_product_where(Mask mask, Twice sum, Twice a, Twice b) {
    return {add_product_where(mask.first, sum.first, a.first, b.first),
            add_product_where(mask.second, sum.second, a.second, b.second)};
  }
  LABELASSEMBLE_INLINE friend Scalar sum_of(Twice x) { return sum_of(x.first + x.second); }
  LABELASSEMBLE_INLINE friend double product_of(Twice x) {
    return product_of(times_one_plus(x.first, x.second));
  }
};

// The smallest of `least` and of the entries of x, lane by lane; NaN in x is passed over.
template <typename V>
LABELASSEMBLE_INLINE inline V least_of(V x, V least) {
  return smaller(x, least);
}
template <typename V>
LABELASSEMBLE_INLINE inline V least_of(Twice<V> x, V least) {
  return smaller(x.second, smaller(x.first, least));
}

template <typename V>
struct OneOf {
  using Type = V;
};
template <typename V>
struct OneOf<Twice<V>> {
  using Type = V;
};

template <typename V>
LABELASSEMBLE_INLINE inline V load_at(const typename ScalarOf<V>::Type* from) {
  if constexpr (std::is_arithmetic_v<V>) {
    return *from;
  } else {
    return V::load(from);
  }
}
template <typename V>
LABELASSEMBLE_INLINE inline void store_at(typename ScalarOf<V>::Type* to, V value) {
  if constexpr (std::is_arithmetic_v<V>) {
    *to = value;
  } else {
    value.store(to);
  }
}

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
