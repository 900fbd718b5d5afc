// Declarations of relu_mean's blocks, inside the namespace of one instruction set.
#pragma once

#include "ops/cpu/block_kernels.h"

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {

template <typename T>
T relu_sum(const T* values, std::int64_t count);

template <typename T>
void relu_sum_rows(T* sums, const T* values, std::int64_t rows, std::int64_t length);

template <typename T>
void relu_add_rows(T* sums, const T* values, std::int64_t rows, std::int64_t stride,
                   std::int64_t count);

template <typename T>
void relu_spread(T* to, const T* values, const T* grads, std::int64_t count);

template <typename T>
void relu_spread_rows(T* to, const T* values, const T* grads, std::int64_t rows,
                      std::int64_t length);

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
