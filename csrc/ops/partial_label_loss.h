// The loss of Label-Assemble on partial labels, as a C++ function and as torch.ops.labelassemble
// ops.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>
#include <tuple>

namespace labelassemble {

// total = mean over known of bce + pseudo_weight * mean over unknown of pseudo
//       + consistency_weight * mean over unknown of consistency          (arXiv 2109.12265,
//       section 2.2)
// logits [B, C, *spatial]; targets of their shape, floating with NaN or integer with -1 for
// unknown; pos_weight and class_weight [C]. The result is a scalar ("none": the logits' shape), in
// float for half-precision logits, else in the logits' dtype.
at::Tensor partial_label_loss(const at::Tensor& logits_weak,
                              const std::optional<at::Tensor>& logits_strong,
                              const at::Tensor& targets, double threshold, double temperature,
                              double pseudo_weight, double consistency_weight,
                              const std::optional<at::Tensor>& pos_weight,
                              const std::optional<at::Tensor>& class_weight, bool detach_target,
                              std::string_view reduction, bool validate);

// The same, and float64 [5] without gradient: bce, pseudo and consistency (reduced as the total,
// without their weights), the known and the unknown entries' number. Not for reduction "none".
std::tuple<at::Tensor, at::Tensor> partial_label_loss_terms(
    const at::Tensor& logits_weak, const std::optional<at::Tensor>& logits_strong,
    const at::Tensor& targets, double threshold, double temperature, double pseudo_weight,
    double consistency_weight, const std::optional<at::Tensor>& pos_weight,
    const std::optional<at::Tensor>& class_weight, bool detach_target, std::string_view reduction,
    bool validate);

// The loss of the known entries alone: binary_cross_entropy_with_logits for targets with unknowns.
at::Tensor masked_bce_with_logits(const at::Tensor& logits, const at::Tensor& targets,
                                  const std::optional<at::Tensor>& pos_weight,
                                  const std::optional<at::Tensor>& class_weight,
                                  std::string_view reduction, bool validate);

enum class Reduction : std::int64_t { kNone = 0, kMean = 1, kSum = 2 };

// The options as every device's kernels get them.
struct LossOptions {
  double threshold;
  double temperature;
  double pseudo_weight;
  double consistency_weight;
  bool detach_target;
  Reduction reduction;
};

// The dtype of sums and of the loss: float for half-precision logits.
at::ScalarType accumulation_type(at::ScalarType logits);

}  // namespace labelassemble
