// Declarations of the conversions, inside the namespace of one instruction set.
#pragma once

#include "ops/cpu/block_kernels.h"

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {

template <typename T>
void load(T* to, const char* from, Element element, std::int64_t stride, std::int64_t count);

template <typename T>
void load_target(T* to, const char* from, Element element, std::int64_t stride, std::int64_t count);

template <typename T>
void store(char* to, Element element, std::int64_t stride, const T* from, std::int64_t count);

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
