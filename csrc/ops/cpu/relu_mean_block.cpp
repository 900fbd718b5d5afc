// Blocks of relu_mean. Compiled once for each instruction set. A NaN stays one, as in torch's relu.
#include "ops/cpu/relu_mean_block.h"

#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {

template <typename T>
T relu_sum(const T* __restrict values, std::int64_t count) {
#if defined(__AVX512F__)
  // By hand, as the rows are short (49 for a 7x7 map): a masked load for the rest, one reduction.
  if constexpr (std::is_same_v<T, float>) {
    __m512 sums = _mm512_setzero_ps();
    std::int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
      sums = _mm512_add_ps(sums, _mm512_max_ps(_mm512_setzero_ps(), _mm512_loadu_ps(values + i)));
    }
    const auto rest = static_cast<__mmask16>((1u << (count - i)) - 1u);
    const __m512 last = _mm512_maskz_loadu_ps(rest, values + i);
    return _mm512_reduce_add_ps(_mm512_add_ps(sums, _mm512_max_ps(_mm512_setzero_ps(), last)));
  }
#endif
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += values[i] < T(0) ? T(0) : values[i];
  return sum;
}

template <typename T>
void relu_add(T* __restrict sums, const T* __restrict values, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) sums[i] += values[i] < T(0) ? T(0) : values[i];
}

template <typename T>
void relu_spread(T* __restrict to, const T* __restrict values, const T* __restrict grads,
                 std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) to[i] = values[i] <= T(0) ? T(0) : grads[i];
}

template float relu_sum<float>(const float*, std::int64_t);
template double relu_sum<double>(const double*, std::int64_t);
template void relu_add<float>(float*, const float*, std::int64_t);
template void relu_add<double>(double*, const double*, std::int64_t);
template void relu_spread<float>(float*, const float*, const float*, std::int64_t);
template void relu_spread<double>(double*, const double*, const double*, std::int64_t);

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
