// From tensors to what the CUDA sources take: one order of the entries for all of them.
#pragma once

#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>

#include <optional>

#include "ops/cuda/launch.h"
#include "ops/element_of.h"

namespace labelassemble::cuda {

// Collects the operands of a kernel, outputs first, and lays them out together.
class Operands {
 public:
  void add_output(const at::Tensor& tensor, Operand& operand) {
    config_.add_output(tensor);
    add(tensor, operand);
  }
  void add_input(const at::Tensor& tensor, Operand& operand) {
    config_.add_const_input(tensor);
    add(tensor, operand);
  }

  // Nothing where their strides leave more axes than kernels take: dense tensors leave few.
  std::optional<Entries> lay_out() {
    config_.set_check_mem_overlap(false).check_all_same_dtype(false).resize_outputs(false);
    const at::TensorIterator iterator = config_.build();
    if (iterator.ndim() > kAxes) return std::nullopt;
    Entries entries;
    entries.total = iterator.numel();
    entries.axes = iterator.ndim();
    std::copy(iterator.shape().begin(), iterator.shape().end(), entries.sizes);
    entries.flat = iterator.ndim() == 1;
    for (size_t i = 0; i < operands_.size(); ++i) {
      Operand& operand = *operands_[i];
      const auto strides = iterator.strides(static_cast<int64_t>(i));
      std::copy(strides.begin(), strides.end(), operand.strides);
      entries.flat = entries.flat &&
                     strides[0] == static_cast<int64_t>(tensors_[i].element_size()) &&
                     reinterpret_cast<std::uintptr_t>(operand.data) % 16 == 0;
    }
    return entries;
  }

 private:
  void add(const at::Tensor& tensor, Operand& operand) {
    operand.data = static_cast<char*>(const_cast<void*>(tensor.const_data_ptr()));
    operand.element = element_of(tensor);
    tensors_.push_back(tensor);
    operands_.push_back(&operand);
  }

  at::TensorIteratorConfig config_;
  c10::SmallVector<at::Tensor, 8> tensors_;
  c10::SmallVector<Operand*, 8> operands_;
};

}  // namespace labelassemble::cuda
