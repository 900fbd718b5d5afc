// The entries of one class of one image after another, for ops that tell the classes apart.
#pragma once

#include <ATen/ATen.h>

#include "ops/cpu/block_kernels.h"
#include "ops/element_of.h"

namespace labelassemble::cpu {

// [B, C, *spatial] whose spatial axes are one of `positions` entries; strides in bytes.
struct Planes {
  at::Tensor tensor;
  Element element;
  char* data;
  std::int64_t positions;
  std::int64_t stride;
  std::int64_t batch_stride;
  std::int64_t class_stride;

  // A copy where the spatial axes cannot be seen as one. No axis may be empty.
  static Planes of(const at::Tensor& tensor) {
    const auto size = static_cast<std::int64_t>(tensor.element_size());
    std::int64_t positions = 1;
    std::int64_t stride = 1;
    for (std::int64_t axis = tensor.dim() - 1; axis >= 2; --axis) {
      const std::int64_t length = tensor.size(axis);
      if (length == 1) continue;
      if (positions == 1) stride = tensor.stride(axis);
      if (tensor.stride(axis) != stride * positions) return of(tensor.contiguous());
      positions *= length;
    }
    return {tensor,
            element_of(tensor),
            static_cast<char*>(const_cast<void*>(tensor.const_data_ptr())),
            positions,
            stride * size,
            tensor.stride(0) * size,
            tensor.stride(1) * size};
  }

  char* at(std::int64_t image, std::int64_t of_class, std::int64_t position) const {
    return data + image * batch_stride + of_class * class_stride + position * stride;
  }

  // A block as T: in place where it lies so, else converted into the buffer.
  template <typename T>
  const T* read(const BlockKernelsOf<T>& kernels, char* from, bool target, std::int64_t count,
                T* buffer) const {
    if (in_place<T>()) return reinterpret_cast<const T*>(from);
    (target ? kernels.load_target : kernels.load)(buffer, from, element, stride, count);
    return buffer;
  }

  template <typename T>
  bool in_place() const {
    constexpr Element own = sizeof(T) == sizeof(float) ? Element::kFloat : Element::kDouble;
    return element == own && stride == static_cast<std::int64_t>(sizeof(T));
  }
};

}  // namespace labelassemble::cpu
