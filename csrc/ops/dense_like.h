// The memory of a result that has the shape of an operand.
#pragma once

#include <ATen/ATen.h>

namespace labelassemble {

// Not filled: channels last where the tensor is, else contiguous. The kernels and Meta both ask
// here, since torch.compile holds a kernel to the strides that Meta promised; in either order the
// spatial axes are one.
inline at::Tensor dense_like(const at::Tensor& tensor, at::ScalarType type) {
  return at::empty_symint(tensor.sym_sizes(), tensor.options().dtype(type),
                          tensor.suggest_memory_format());
}

}  // namespace labelassemble
