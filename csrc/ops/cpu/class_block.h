// Declarations of the blocks of excluded and class_sums, inside the namespace of one instruction
// set.
#pragma once

#include "ops/cpu/block_kernels.h"

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {

template <typename T>
void excluded(const ExcludedBlock<T>& block);

template <typename T>
void class_sums(const T* logits, const T* targets, T threshold, std::int64_t count,
                ClassSums& sums);

template <typename T>
void class_sums_backward(const T* logits, const T* targets, T overlap, T predicted,
                         std::int64_t count, T* grad);

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
