// A tensor's dtype as an Element, and the dtype that it is summed in.
#pragma once

#include <ATen/core/Tensor.h>

#include "ops/element.h"

namespace labelassemble {

inline Element element_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return Element::kFloat;
    case at::kDouble:
      return Element::kDouble;
    case at::kHalf:
      return Element::kHalf;
    case at::kBFloat16:
      return Element::kBFloat16;
    case at::kChar:
      return Element::kInt8;
    case at::kByte:
    case at::kBool:
      return Element::kUInt8;
    case at::kShort:
      return Element::kInt16;
    case at::kInt:
      return Element::kInt32;
    case at::kLong:
      return Element::kInt64;
    default:
      TORCH_CHECK(false, "labelassemble: no kernel for ", tensor.scalar_type());
  }
}

// The dtype of sums and of the loss: float for half precision.
inline at::ScalarType accumulation_type(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace labelassemble
