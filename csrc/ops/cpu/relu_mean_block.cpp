// Blocks of relu_mean. Compiled once for each instruction set. A NaN stays one, as in torch's relu.
//
// Tried, in us for 16x1024x7x7 floats from the third-level cache (AVX-512, one thread; reading
// alone takes 38, torch's relu and mean 169 contiguous and 187 channels_last):
//   sums, contiguous       a row a call, reduced by itself          162
//                          sixteen rows at once                      62  <- this
//   sums, channels_last    a position and 64 channels a call        124
//                          four positions and 512 channels a pass    54  <- this
//   gradient, contiguous   a gradient of each value, read anew      204
//                          one for each row, masked rest             99  <- this; copying takes 71
#include "ops/cpu/relu_mean_block.h"

#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {
namespace {

template <typename T>
[[gnu::always_inline]] inline T relu(T value) {
  return value < T(0) ? T(0) : value;
}

#if defined(__AVX512F__)

[[gnu::always_inline]] inline __m512 relu(__m512 values) {
  return _mm512_max_ps(_mm512_setzero_ps(), values);  // the second where one is NaN
}

[[gnu::always_inline]] inline __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1u);
}

// Lane i is the sum of the relus of values i, i + 16, ...
[[gnu::always_inline]] inline __m512 relu_lanes(const float* values, std::int64_t whole,
                                                __mmask16 rest) {
  __m512 sums = relu(_mm512_maskz_loadu_ps(rest, values + whole));
  for (std::int64_t i = 0; i < whole; i += 16) {
    sums = _mm512_add_ps(sums, relu(_mm512_loadu_ps(values + i)));
  }
  return sums;
}

// Four rows into one: each 128-bit lane of the result has what that lane of the rows sums to.
[[gnu::always_inline]] inline __m512 fold(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512d ab =
      _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
  const __m512d cd =
      _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
}

// Two into one: neighbouring 128-bit lanes are added.
[[gnu::always_inline]] inline __m512 fold_lanes(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

// Sixteen rows at once, since the rows are short (49 values for a 7x7 map): 30 shuffles then reduce
// all of them, where one row alone takes 4 shuffles that wait for each other. Rows beyond `rows`
// are the last one again, so that every row is added in the same order.
void sum_short_rows(float* sums, const float* values, std::int64_t rows, std::int64_t length) {
  const std::int64_t whole = length / 16 * 16;
  const __mmask16 rest = first_lanes(length - whole);
  for (std::int64_t first = 0; first < rows; first += 16) {
    __m512 quarters[4];
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < 4; ++i) {
      const auto lanes = [&](std::int64_t row) __attribute__((always_inline)) {
        const std::int64_t at = first + 4 * i + row;
        return relu_lanes(values + (at < rows ? at : rows - 1) * length, whole, rest);
      };
      quarters[i] = fold(lanes(0), lanes(1), lanes(2), lanes(3));
    }
    const __m512 all =
        fold_lanes(fold_lanes(quarters[0], quarters[1]), fold_lanes(quarters[2], quarters[3]));
    const std::int64_t left = rows - first;
    _mm512_mask_storeu_ps(sums + first, left < 16 ? first_lanes(left) : __mmask16(0xffff), all);
  }
}

void spread_short_rows(float* to, const float* values, const float* grads, std::int64_t rows,
                       std::int64_t length) {
  const std::int64_t whole = length / 16 * 16;
  const __mmask16 rest = first_lanes(length - whole);
  const __m512 zero = _mm512_setzero_ps();
  for (std::int64_t row = 0; row < rows; ++row, to += length, values += length) {
    const __m512 grad = _mm512_set1_ps(grads[row]);
    const auto spread = [&](__m512 value) __attribute__((always_inline)) {
      return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(value, zero, _CMP_NLE_UQ), grad);
    };
    for (std::int64_t i = 0; i < whole; i += 16) {
      _mm512_storeu_ps(to + i, spread(_mm512_loadu_ps(values + i)));
    }
    _mm512_mask_storeu_ps(to + whole, rest, spread(_mm512_maskz_loadu_ps(rest, values + whole)));
  }
}

#endif

}  // namespace

template <typename T>
T relu_sum(const T* __restrict values, std::int64_t count) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += relu(values[i]);
  return sum;
}

template <typename T>
void relu_sum_rows(T* __restrict sums, const T* __restrict values, std::int64_t rows,
                   std::int64_t length) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return sum_short_rows(sums, values, rows, length);
#endif
  for (std::int64_t row = 0; row < rows; ++row) {
    sums[row] = relu_sum<T>(values + row * length, length);
  }
}

// Four rows to each pass over the sums.
template <typename T>
void relu_add_rows(T* __restrict sums, const T* __restrict values, std::int64_t rows,
                   std::int64_t stride, std::int64_t count) {
  std::int64_t row = 0;
  for (; row + 4 <= rows; row += 4, values += 4 * stride) {
    const T* __restrict second = values + stride;
    const T* __restrict third = second + stride;
    const T* __restrict fourth = third + stride;
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
      sums[i] += (relu(values[i]) + relu(second[i])) + (relu(third[i]) + relu(fourth[i]));
    }
  }
  for (; row < rows; ++row, values += stride) {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) sums[i] += relu(values[i]);
  }
}

template <typename T>
void relu_spread(T* __restrict to, const T* __restrict values, const T* __restrict grads,
                 std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) to[i] = values[i] <= T(0) ? T(0) : grads[i];
}

template <typename T>
void relu_spread_rows(T* __restrict to, const T* __restrict values, const T* __restrict grads,
                      std::int64_t rows, std::int64_t length) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return spread_short_rows(to, values, grads, rows, length);
#endif
  for (std::int64_t row = 0; row < rows; ++row, to += length, values += length) {
    const T grad = grads[row];
#pragma omp simd
    for (std::int64_t i = 0; i < length; ++i) to[i] = values[i] <= T(0) ? T(0) : grad;
  }
}

#define LABELASSEMBLE_RELU_MEAN(T)                                                        \
  template T relu_sum<T>(const T*, std::int64_t);                                         \
  template void relu_sum_rows<T>(T*, const T*, std::int64_t, std::int64_t);               \
  template void relu_add_rows<T>(T*, const T*, std::int64_t, std::int64_t, std::int64_t); \
  template void relu_spread<T>(T*, const T*, const T*, std::int64_t);                     \
  template void relu_spread_rows<T>(T*, const T*, const T*, std::int64_t, std::int64_t);
LABELASSEMBLE_RELU_MEAN(float)
LABELASSEMBLE_RELU_MEAN(double)
#undef LABELASSEMBLE_RELU_MEAN

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
