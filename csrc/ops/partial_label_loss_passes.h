// The two passes of partial_label_loss as private ops: what a device's file implements is a
// function of LossInputs, and what the dispatcher calls is made of it here.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

#include "ops/partial_label_loss.h"

namespace labelassemble {

// What both passes read.
struct LossInputs {
  const at::Tensor& weak;
  const std::optional<at::Tensor>& strong;
  const at::Tensor& targets;
  const std::optional<at::Tensor>& pos_weight;
  const std::optional<at::Tensor>& class_weight;
  LossOptions options;

  // A strong view whose term has no weight is not read.
  bool reads_strong() const { return strong.has_value() && options.consistency_weight != 0; }
  bool per_entry() const { return options.reduction == Reduction::kNone; }
  at::ScalarType accumulation() const { return accumulation_type(weak.scalar_type()); }
};

void check_loss_inputs(const LossInputs& inputs);

// Raises where a known target lies outside [0, 1]. Waits for the device.
void check_target_values(const at::Tensor& targets);

// [C] as a view that goes along with [B, C, *spatial].
at::Tensor along_classes(const at::Tensor& vector, const at::Tensor& logits);

// The loss (a scalar, or with reduction none one for each entry) and the terms, float64 [5].
using LossPair = std::tuple<at::Tensor, at::Tensor>;
using LossForwardPass = LossPair(const LossInputs& inputs, bool validate);

// The gradients of both views, undefined where they are not needed.
using LossBackwardPass = LossPair(const LossInputs& inputs, const at::Tensor& grad,
                                  const at::Tensor& terms, bool need_weak, bool need_strong);

template <LossForwardPass* pass>
LossPair loss_forward_op(const at::Tensor& logits_weak,
                         const std::optional<at::Tensor>& logits_strong, const at::Tensor& targets,
                         const std::optional<at::Tensor>& pos_weight,
                         const std::optional<at::Tensor>& class_weight, double threshold,
                         double temperature, double pseudo_weight, double consistency_weight,
                         std::int64_t reduction, bool validate) {
  const LossInputs inputs{logits_weak,
                          logits_strong,
                          targets,
                          pos_weight,
                          class_weight,
                          {threshold, temperature, pseudo_weight, consistency_weight, true,
                           static_cast<Reduction>(reduction)}};
  check_loss_inputs(inputs);
  return pass(inputs, validate);
}

template <LossBackwardPass* pass>
LossPair loss_backward_op(const at::Tensor& grad, const at::Tensor& logits_weak,
                          const std::optional<at::Tensor>& logits_strong, const at::Tensor& targets,
                          const std::optional<at::Tensor>& pos_weight,
                          const std::optional<at::Tensor>& class_weight, const at::Tensor& terms,
                          double threshold, double temperature, double pseudo_weight,
                          double consistency_weight, bool detach_target, std::int64_t reduction,
                          bool need_weak, bool need_strong) {
  const LossInputs inputs{logits_weak,
                          logits_strong,
                          targets,
                          pos_weight,
                          class_weight,
                          {threshold, temperature, pseudo_weight, consistency_weight, detach_target,
                           static_cast<Reduction>(reduction)}};
  check_loss_inputs(inputs);
  TORCH_CHECK(grad.scalar_type() == inputs.accumulation(), "partial_label_loss: grad must be ",
              inputs.accumulation(), ", got ", grad.scalar_type());
  return pass(inputs, grad, terms, need_weak, need_strong);
}

// The private ops through the dispatcher.
LossPair call_loss_forward(const at::Tensor& logits_weak,
                           const std::optional<at::Tensor>& logits_strong,
                           const at::Tensor& targets, const std::optional<at::Tensor>& pos_weight,
                           const std::optional<at::Tensor>& class_weight, double threshold,
                           double temperature, double pseudo_weight, double consistency_weight,
                           std::int64_t reduction, bool validate);
LossPair call_loss_backward(const at::Tensor& grad, const at::Tensor& logits_weak,
                            const std::optional<at::Tensor>& logits_strong,
                            const at::Tensor& targets, const std::optional<at::Tensor>& pos_weight,
                            const std::optional<at::Tensor>& class_weight, const at::Tensor& terms,
                            double threshold, double temperature, double pseudo_weight,
                            double consistency_weight, bool detach_target, std::int64_t reduction,
                            bool need_weak, bool need_strong);

// mean, sum or none; of partial_label_loss_terms: mean or sum.
Reduction parse_reduction(std::string_view reduction);
Reduction parse_terms_reduction(std::string_view reduction);

}  // namespace labelassemble
