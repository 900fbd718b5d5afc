// The loss of Label-Assemble on partial labels, as C++ functions and as torch.ops.labelassemble
// ops. Every function takes LossInputs; with_schema gives it the parameters of the op's schema.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string_view>
#include <tuple>

#include "ops/element_of.h"
#include "ops/loss_options.h"

namespace labelassemble {

// logits [B, C, *spatial]; targets of their shape, floating with NaN or integer with -1 for
// unknown; pos_weight and class_weight [C]; absent, bool of the logits' shape: where an unknown
// entry has the pseudo-label 0 instead of s(a_w).
struct LossInputs {
  const at::Tensor& weak;
  const std::optional<at::Tensor>& strong;
  const at::Tensor& targets;
  const std::optional<at::Tensor>& pos_weight;
  const std::optional<at::Tensor>& class_weight;
  const std::optional<at::Tensor>& absent;
  LossOptions options;

  bool has_consistency() const { return strong.has_value() && options.consistency_weight != 0; }
  bool has_unknown() const { return options.pseudo_weight != 0 || has_consistency(); }
  bool both_views() const { return strong.has_value() && options.strong_known; }
  // A strong view without a part in a term that has a weight is not read, and so is `absent`.
  bool reads_strong() const { return has_consistency() || both_views(); }
  bool reads_absent() const { return absent.has_value() && has_unknown(); }
  bool per_entry() const { return options.reduction == Reduction::kNone; }
  at::ScalarType accumulation() const { return accumulation_type(weak.scalar_type()); }
};

// Two tensors: loss and terms, or the gradients of both views.
using LossPair = std::tuple<at::Tensor, at::Tensor>;

// The loss, and float64 [5] without gradient: bce, pseudo and consistency (reduced as the total,
// without their weights; with reduction none their sums), the number of known and of unknown
// entries.
//
// total = mean over known of bce + pseudo_weight * mean over unknown of pseudo
//       + consistency_weight * mean over unknown of consistency    (arXiv 2109.12265, section 2.2)
//
// With strong_known, bce is the mean of that of both views.
//
// The loss is a scalar (reduction none: the logits' shape), in float for half-precision logits,
// else in the logits' dtype.
//
// `validate` raises where a known target lies outside [0, 1], or a weight of a class is negative or
// not finite: on the CPU at once. On CUDA nothing waits for the device: that call's loss and terms
// are NaN, its gradient is 0, and a later call raises.
LossPair partial_label_loss_terms(const LossInputs& inputs, bool validate);

// The loss alone.
at::Tensor partial_label_loss(const LossInputs& inputs, bool validate);

// The loss of the known entries alone: binary_cross_entropy_with_logits for targets with unknowns.
at::Tensor masked_bce_with_logits(const at::Tensor& logits, const at::Tensor& targets,
                                  const std::optional<at::Tensor>& pos_weight,
                                  const std::optional<at::Tensor>& class_weight,
                                  std::string_view reduction, bool validate);

Reduction parse_reduction(std::string_view reduction);

template <auto* function>
auto with_terms_schema(const at::Tensor& logits_weak,
                       const std::optional<at::Tensor>& logits_strong, const at::Tensor& targets,
                       double threshold, double temperature, double pseudo_weight,
                       double consistency_weight, const std::optional<at::Tensor>& pos_weight,
                       const std::optional<at::Tensor>& class_weight, bool detach_target,
                       std::string_view reduction, bool validate, bool strong_known,
                       const std::optional<at::Tensor>& absent) {
  const LossOptions options{threshold,          temperature,   pseudo_weight,
                            consistency_weight, detach_target, parse_reduction(reduction),
                            strong_known};
  return function({logits_weak, logits_strong, targets, pos_weight, class_weight, absent, options},
                  validate);
}

// Without what is not the paper's.
template <auto* function>
auto with_schema(const at::Tensor& logits_weak, const std::optional<at::Tensor>& logits_strong,
                 const at::Tensor& targets, double threshold, double temperature,
                 double pseudo_weight, double consistency_weight,
                 const std::optional<at::Tensor>& pos_weight,
                 const std::optional<at::Tensor>& class_weight, bool detach_target,
                 std::string_view reduction, bool validate) {
  return with_terms_schema<function>(logits_weak, logits_strong, targets, threshold, temperature,
                                     pseudo_weight, consistency_weight, pos_weight, class_weight,
                                     detach_target, reduction, validate, false, std::nullopt);
}

// What the backward reads beside the inputs of the forward.
struct LossGradients {
  const at::Tensor& grad;
  const at::Tensor& terms;  // of the forward
  bool need_weak;
  bool need_strong;
};

// Options as the numbers that the backward's schema and autograd's context hold.
using LossNumbers = std::array<double, 7>;
LossNumbers to_numbers(const LossOptions& options);
LossOptions from_numbers(at::ArrayRef<double> numbers);

template <LossPair (*function)(const LossInputs&, const LossGradients&)>
LossPair with_backward_schema(const at::Tensor& grad, const at::Tensor& logits_weak,
                              const std::optional<at::Tensor>& logits_strong,
                              const at::Tensor& targets,
                              const std::optional<at::Tensor>& pos_weight,
                              const std::optional<at::Tensor>& class_weight,
                              const at::Tensor& terms, at::ArrayRef<double> options, bool need_weak,
                              bool need_strong, const std::optional<at::Tensor>& absent) {
  return function({logits_weak, logits_strong, targets, pos_weight, class_weight, absent,
                   from_numbers(options)},
                  {grad, terms, need_weak, need_strong});
}

// Both are called by every device's kernels.
void check_loss_inputs(const LossInputs& inputs);
void check_loss_gradients(const LossInputs& inputs, const LossGradients& gradients);

// Raises for a value of pos_weight or class_weight that is negative or not finite.
void check_weight_value(const char* name, double value);

// Raises for the first known target outside [0, 1], of which the caller knows that there is one.
[[noreturn]] void refuse_targets(const LossInputs& inputs);

// [C] as a view that goes along with [B, C, *spatial].
at::Tensor along_classes(const at::Tensor& vector, const at::Tensor& logits);

}  // namespace labelassemble
