// Autograd of partial_label_loss.
//
// The forward keeps five float64 numbers (terms and counts) for the backward, which computes the
// probabilities anew: reading the inputs again is cheaper than writing and reading what could be
// kept.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/partial_label_loss_passes.h"

namespace labelassemble {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

void check_no_gradient(const char* name, const Tensor& tensor) {
  TORCH_CHECK(!tensor.requires_grad(), "partial_label_loss: ", name,
              " must not require a gradient: it is taken as a constant");
}

class PartialLabelLoss : public torch::autograd::Function<PartialLabelLoss> {
 public:
  static variable_list forward(AutogradContext* ctx, const Variable& logits_weak,
                               const OptionalTensor& logits_strong, const Variable& targets,
                               const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                               double threshold, double temperature, double pseudo_weight,
                               double consistency_weight, bool detach_target, int64_t reduction,
                               bool validate) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, terms] =
        call_loss_forward(logits_weak, logits_strong, targets, pos_weight, class_weight, threshold,
                          temperature, pseudo_weight, consistency_weight, reduction, validate);
    ctx->save_for_backward({logits_weak, logits_strong.value_or(Tensor()), targets,
                            pos_weight.value_or(Tensor()), class_weight.value_or(Tensor()), terms});
    // One entry: each takes as long as a small batch's entries do.
    ctx->saved_data["options"] = std::vector<double>{threshold,
                                                     temperature,
                                                     pseudo_weight,
                                                     consistency_weight,
                                                     detach_target ? 1.0 : 0.0,
                                                     static_cast<double>(reduction)};
    ctx->mark_non_differentiable({terms});
    ctx->set_materialize_grads(false);
    return {loss, terms};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    variable_list result(12);
    if (!grads[0].defined()) return result;
    const auto saved = ctx->get_saved_variables();
    const auto optional = [](const Tensor& tensor) {
      return tensor.defined() ? OptionalTensor(tensor) : OptionalTensor();
    };
    const auto options = ctx->saved_data["options"].toDoubleVector();
    std::tie(result[0], result[1]) = call_loss_backward(
        grads[0], saved[0], optional(saved[1]), saved[2], optional(saved[3]), optional(saved[4]),
        saved[5], options[0], options[1], options[2], options[3], options[4] != 0,
        static_cast<int64_t>(options[5]), ctx->needs_input_grad(0),
        saved[1].defined() && options[3] != 0 && ctx->needs_input_grad(1));
    return result;
  }
};

LossPair autograd_loss(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                       const Tensor& targets, double threshold, double temperature,
                       double pseudo_weight, double consistency_weight,
                       const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                       bool detach_target, Reduction reduction, bool validate) {
  check_no_gradient("targets", targets);
  if (pos_weight.has_value()) check_no_gradient("pos_weight", *pos_weight);
  if (class_weight.has_value()) check_no_gradient("class_weight", *class_weight);
  auto result = PartialLabelLoss::apply(
      logits_weak, logits_strong, targets, pos_weight, class_weight, threshold, temperature,
      pseudo_weight, consistency_weight, detach_target, static_cast<int64_t>(reduction), validate);
  return {std::move(result[0]), std::move(result[1])};
}

Tensor loss_autograd(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                     const Tensor& targets, double threshold, double temperature,
                     double pseudo_weight, double consistency_weight,
                     const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                     bool detach_target, std::string_view reduction, bool validate) {
  return std::get<0>(autograd_loss(logits_weak, logits_strong, targets, threshold, temperature,
                                   pseudo_weight, consistency_weight, pos_weight, class_weight,
                                   detach_target, parse_reduction(reduction), validate));
}

LossPair terms_autograd(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                        const Tensor& targets, double threshold, double temperature,
                        double pseudo_weight, double consistency_weight,
                        const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                        bool detach_target, std::string_view reduction, bool validate) {
  return autograd_loss(logits_weak, logits_strong, targets, threshold, temperature, pseudo_weight,
                       consistency_weight, pos_weight, class_weight, detach_target,
                       parse_terms_reduction(reduction), validate);
}

LossPair refuse_double_backward(const Tensor& grad, const Tensor& logits_weak,
                                const OptionalTensor& logits_strong, const Tensor& targets,
                                const OptionalTensor& pos_weight,
                                const OptionalTensor& class_weight, const Tensor& terms,
                                double threshold, double temperature, double pseudo_weight,
                                double consistency_weight, bool detach_target, int64_t reduction,
                                bool need_weak, bool need_strong) {
  const bool differentiable = grad.requires_grad() || logits_weak.requires_grad() ||
                              (logits_strong.has_value() && logits_strong->requires_grad());
  TORCH_CHECK(!at::GradMode::is_enabled() || !differentiable,
              "partial_label_loss: second derivatives are not supported (backward was called with "
              "create_graph=True); labelassemble.ops.partial_label_loss.reference has them");
  at::AutoDispatchBelowADInplaceOrView guard;
  return call_loss_backward(grad, logits_weak, logits_strong, targets, pos_weight, class_weight,
                            terms, threshold, temperature, pseudo_weight, consistency_weight,
                            detach_target, reduction, need_weak, need_strong);
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, Autograd, m) {
  m.impl("partial_label_loss", loss_autograd);
  m.impl("partial_label_loss_terms", terms_autograd);
  m.impl("_partial_label_loss_backward", refuse_double_backward);
}

}  // namespace labelassemble
