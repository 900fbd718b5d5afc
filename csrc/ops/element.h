// The dtypes of tensors that kernels read and write, for sources without torch headers.
#pragma once

namespace labelassemble {

enum class Element { kFloat, kDouble, kHalf, kBFloat16, kInt8, kUInt8, kInt16, kInt32, kInt64 };

}  // namespace labelassemble
