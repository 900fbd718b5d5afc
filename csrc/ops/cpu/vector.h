// As many floats or doubles as the instruction set's registers hold, with the operators of the shared
// formulas. Written with GCC's and Clang's vector extension, as GCC 12 did not vectorise loops over the
// formulas by itself ("no vectype": 25 ns an entry, against 1 here).
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

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

#define LABELASSEMBLE_INLINE [[gnu::always_inline]]

// GCC 12 takes the attribute only on a type that is not a template's argument.
template <typename T>
struct Registers;
template <>
struct Registers<float> {
  typedef float Lanes __attribute__((vector_size(kVectorBytes)));
  typedef std::int32_t Bits __attribute__((vector_size(kVectorBytes)));
};
template <>
struct Registers<double> {
  typedef double Lanes __attribute__((vector_size(kVectorBytes)));
  typedef std::int64_t Bits __attribute__((vector_size(kVectorBytes)));
};

template <typename T>
struct Vector {
  using Scalar = T;
  using Lanes = typename Registers<T>::Lanes;
  using Bits = typename Registers<T>::Bits;
  struct Mask {
    Bits lanes;
    LABELASSEMBLE_INLINE friend Mask operator&(Mask a, Mask b) { return {a.lanes & b.lanes}; }
  };
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
  LABELASSEMBLE_INLINE friend Mask operator<(Vector a, Vector b) { return {a.lanes < b.lanes}; }
  LABELASSEMBLE_INLINE friend Mask operator<=(Vector a, Vector b) { return {a.lanes <= b.lanes}; }
  LABELASSEMBLE_INLINE friend Mask operator>(Vector a, Vector b) { return {a.lanes > b.lanes}; }
  LABELASSEMBLE_INLINE friend Mask operator>=(Vector a, Vector b) { return {a.lanes >= b.lanes}; }
  LABELASSEMBLE_INLINE friend Mask operator==(Vector a, Vector b) { return {a.lanes == b.lanes}; }
  LABELASSEMBLE_INLINE friend Mask operator!=(Vector a, Vector b) { return {a.lanes != b.lanes}; }
  LABELASSEMBLE_INLINE friend Vector select(Mask mask, Vector a, Vector b) {
    return {mask.lanes ? a.lanes : b.lanes};
  }

  LABELASSEMBLE_INLINE friend Vector power_of_two(Vector shifted, int bias) {
    const Bits bits = (reinterpret_cast<Bits>(shifted.lanes) + bias) << 23;
    return {reinterpret_cast<Lanes>(bits)};
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

// How many of the numbers are not NaN.
LABELASSEMBLE_INLINE inline std::int64_t count_numbers(float x) { return x == x; }
LABELASSEMBLE_INLINE inline std::int64_t count_numbers(double x) { return x == x; }
template <typename T>
LABELASSEMBLE_INLINE inline std::int64_t count_numbers(Vector<T> x) {
  [[maybe_unused]] constexpr bool kFloat = std::is_same_v<T, float>;
#if defined(__AVX512F__)
  if constexpr (kFloat) {
    return __builtin_popcount(_mm512_cmp_ps_mask(x.lanes, x.lanes, _CMP_ORD_Q));
  } else {
    return __builtin_popcount(_mm512_cmp_pd_mask(x.lanes, x.lanes, _CMP_ORD_Q));
  }
#elif defined(__AVX2__)
  if constexpr (kFloat) {
    return __builtin_popcount(_mm256_movemask_ps(_mm256_cmp_ps(x.lanes, x.lanes, _CMP_ORD_Q)));
  } else {
    return __builtin_popcount(_mm256_movemask_pd(_mm256_cmp_pd(x.lanes, x.lanes, _CMP_ORD_Q)));
  }
#else
  const auto numbers = x.lanes == x.lanes;  // -1 for each
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < Vector<T>::kSize; ++i) count -= numbers[i];
  return count;
#endif
}

template <typename T>
LABELASSEMBLE_INLINE inline T sum_of(Vector<T> vector) {
  T total = 0;
  for (std::int64_t i = 0; i < Vector<T>::kSize; ++i) total += vector.lanes[i];
  return total;
}
template <typename T>
LABELASSEMBLE_INLINE inline T sum_of(T number) {
  return number;
}

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
