// Blocks of relu_mean. Compiled once for each instruction set. A NaN stays one, as in torch's relu.
#include "ops/cpu/relu_mean_block.h"

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {

template <typename T>
T relu_sum(const T* __restrict values, std::int64_t count) {
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
