// Declarations of the loss's blocks, inside the namespace of one instruction set.
#pragma once

#include "ops/cpu/block_kernels.h"

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {

template <typename T>
void loss_forward(const LossForwardBlock<T>& block, LossSums& sums);

template <typename T>
void loss_backward(const LossBackwardBlock<T>& block);

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
