// Autograd of partial_label_loss_terms.
//
// The forward keeps five float64 numbers (terms and counts) for the backward, which computes the
// probabilities anew: reading the inputs again is cheaper than writing and reading what could be
// kept.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/partial_label_loss.h"

namespace labelassemble {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// The private op through the dispatcher.
LossPair call_backward(const LossInputs& inputs, const LossGradients& gradients) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::_partial_label_loss_backward", "")
                             .typed<decltype(with_backward_schema<call_backward>)>();
  const auto& [weak, strong, targets, pos_weight, class_weight, options] = inputs;
  return op.call(gradients.grad, weak, strong, targets, pos_weight, class_weight, gradients.terms,
                 to_numbers(options), gradients.need_weak, gradients.need_strong);
}

class PartialLabelLoss : public torch::autograd::Function<PartialLabelLoss> {
 public:
  static variable_list forward(AutogradContext* ctx, const Variable& weak,
                               const OptionalTensor& strong, const Variable& targets,
                               const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                               const LossOptions& options, bool validate) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, terms] = partial_label_loss_terms(
        {weak, strong, targets, pos_weight, class_weight, options}, validate);
    ctx->save_for_backward({weak, strong.value_or(Tensor()), targets, pos_weight.value_or(Tensor()),
                            class_weight.value_or(Tensor()), terms});
    // One entry: each takes as long as a small batch's entries do.
    ctx->saved_data["options"] = at::ArrayRef<double>(to_numbers(options));
    ctx->mark_non_differentiable({terms});
    ctx->set_materialize_grads(false);
    return {loss, terms};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    variable_list result(7);  // one for each argument of forward
    if (!grads[0].defined()) return result;
    const auto saved = ctx->get_saved_variables();
    const auto optional = [](const Tensor& tensor) {
      return tensor.defined() ? OptionalTensor(tensor) : OptionalTensor();
    };
    const OptionalTensor strong = optional(saved[1]);
    const OptionalTensor pos_weight = optional(saved[3]);
    const OptionalTensor class_weight = optional(saved[4]);
    const LossInputs inputs{
        saved[0],   strong,       saved[2],
        pos_weight, class_weight, from_numbers(ctx->saved_data["options"].toDoubleVector())};
    std::tie(result[0], result[1]) =
        call_backward(inputs, {grads[0], saved[5], ctx->needs_input_grad(0),
                               inputs.reads_strong() && ctx->needs_input_grad(1)});
    return result;
  }
};

void check_no_gradient(const char* name, const Tensor& tensor) {
  TORCH_CHECK(!tensor.requires_grad(), "partial_label_loss: ", name,
              " must not require a gradient: it is taken as a constant");
}

LossPair differentiable(const LossInputs& inputs, bool validate) {
  const auto& [weak, strong, targets, pos_weight, class_weight, options] = inputs;
  check_no_gradient("targets", targets);
  if (pos_weight.has_value()) check_no_gradient("pos_weight", *pos_weight);
  if (class_weight.has_value()) check_no_gradient("class_weight", *class_weight);
  auto result =
      PartialLabelLoss::apply(weak, strong, targets, pos_weight, class_weight, options, validate);
  return {std::move(result[0]), std::move(result[1])};
}

LossPair refuse_double_backward(const LossInputs& inputs, const LossGradients& gradients) {
  const bool differentiable = gradients.grad.requires_grad() || inputs.weak.requires_grad() ||
                              (inputs.strong.has_value() && inputs.strong->requires_grad());
  TORCH_CHECK(!at::GradMode::is_enabled() || !differentiable,
              "partial_label_loss: second derivatives are not supported (backward was called with "
              "create_graph=True); labelassemble.ops.partial_label_loss.reference has them");
  const at::AutoDispatchBelowADInplaceOrView guard;
  return call_backward(inputs, gradients);
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, Autograd, m) {
  m.impl("partial_label_loss_terms", with_schema<differentiable>);
  m.impl("_partial_label_loss_backward", with_backward_schema<refuse_double_backward>);
}

}  // namespace labelassemble
