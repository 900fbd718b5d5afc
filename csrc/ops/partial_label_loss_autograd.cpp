// Autograd of partial_label_loss_terms.
//
// The forward keeps five float64 numbers (terms and counts) for the backward, which computes the
// probabilities anew: reading the inputs again is cheaper than writing and reading what could be
// kept. Second derivatives are torch's own, of the same gradients composed of torch's functions.
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
  const auto& [weak, strong, targets, pos_weight, class_weight, absent, options] = inputs;
  return op.call(gradients.grad, weak, strong, targets, pos_weight, class_weight, gradients.terms,
                 to_numbers(options), gradients.need_weak, gradients.need_strong, absent);
}

class PartialLabelLoss : public torch::autograd::Function<PartialLabelLoss> {
 public:
  static variable_list forward(AutogradContext* ctx, const Variable& weak,
                               const OptionalTensor& strong, const Variable& targets,
                               const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                               const OptionalTensor& absent, const LossOptions& options,
                               bool validate) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    auto [loss, terms] = partial_label_loss_terms(
        {weak, strong, targets, pos_weight, class_weight, absent, options}, validate);
    ctx->save_for_backward({weak, strong.value_or(Tensor()), targets, pos_weight.value_or(Tensor()),
                            class_weight.value_or(Tensor()), terms, absent.value_or(Tensor())});
    // One entry: each takes as long as a small batch's entries do.
    ctx->saved_data["options"] = at::ArrayRef<double>(to_numbers(options));
    ctx->mark_non_differentiable({terms});
    ctx->set_materialize_grads(false);
    return {loss, terms};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    variable_list result(8);  // one for each argument of forward
    if (!grads[0].defined()) return result;
    const auto saved = ctx->get_saved_variables();
    const auto optional = [](const Tensor& tensor) {
      return tensor.defined() ? OptionalTensor(tensor) : OptionalTensor();
    };
    const OptionalTensor strong = optional(saved[1]);
    const OptionalTensor pos_weight = optional(saved[3]);
    const OptionalTensor class_weight = optional(saved[4]);
    const OptionalTensor absent = optional(saved[6]);
    const LossInputs inputs{saved[0],
                            strong,
                            saved[2],
                            pos_weight,
                            class_weight,
                            absent,
                            from_numbers(ctx->saved_data["options"].toDoubleVector())};
    std::tie(result[0], result[1]) =
        call_backward(inputs, {grads[0], saved[5], ctx->needs_input_grad(0),
                               inputs.reads_strong() && ctx->needs_input_grad(1)});
    return result;
  }
};

// Known targets: not NaN, or not -1 in integers with a sign.
Tensor known_mask(const Tensor& targets) {
  if (targets.is_floating_point()) return targets.isnan().logical_not();
  if (at::isSignedType(targets.scalar_type())) return targets != -1;
  return at::ones_like(targets, at::kBool);
}

void check_no_gradient(const char* name, const Tensor& tensor) {
  TORCH_CHECK(!tensor.requires_grad(), "partial_label_loss: ", name,
              " must not require a gradient: the op takes it as a constant, "
              "labelassemble.functional does not");
}

LossPair differentiable(const LossInputs& inputs, bool validate) {
  const auto& [weak, strong, targets, pos_weight, class_weight, absent, options] = inputs;
  check_no_gradient("targets", targets);
  if (pos_weight.has_value()) check_no_gradient("pos_weight", *pos_weight);
  if (class_weight.has_value()) check_no_gradient("class_weight", *class_weight);
  auto result = PartialLabelLoss::apply(weak, strong, targets, pos_weight, class_weight, absent,
                                        options, validate);
  return {std::move(result[0]), std::move(result[1])};
}

// The gradients of the forward in torch's own differentiable functions, for second derivatives: the
// same as the kernels' but for rounding.
LossPair composed_gradients(const LossInputs& inputs, const LossGradients& gradients) {
  const auto& [weak, strong, targets, pos_weight, class_weight, absent, options] = inputs;
  const at::ScalarType type = inputs.accumulation();
  const Tensor known = known_mask(targets);
  const Tensor zero = at::zeros({}, weak.options().dtype(type));
  const auto of_class = [&](const OptionalTensor& vector) {
    return vector.has_value() ? along_classes(*vector, weak).to(type) : at::ones_like(zero);
  };
  // grad over the count of what a term is the mean of, with the class's weight
  const auto scaled = [&](int64_t count) {
    const Tensor grad = gradients.grad * of_class(class_weight);
    if (options.reduction != Reduction::kMean) return grad;
    return grad / gradients.terms.select(0, count).clamp_min(1).to(type);
  };
  const Tensor grad_known = inputs.both_views() ? scaled(3) / 2 : scaled(3);
  const Tensor grad_unknown = scaled(4);

  // d(bce)/dz = (1 - y) a - w+ y (1 - a)
  const Tensor y = at::where(known, targets.to(type), zero);
  const auto known_slope = [&](const Tensor& view) {
    const Tensor a_known = at::sigmoid(at::where(known, view.to(type), zero));
    return at::where(
        known, grad_known * ((1 - y) * a_known - of_class(pos_weight) * y * (1 - a_known)), zero);
  };
  Tensor to_weak = known_slope(weak);

  // d(pseudo)/dz = 2 (a_w - s) (1 - ds/da) da/dz, with s(a_w) a constant or of the slope ds/da
  const Tensor a = at::sigmoid(at::where(known, zero, weak.to(type)));
  const Tensor moved = a * (1 - 1 / options.temperature);
  Tensor s = at::where(a > options.threshold, moved + 1 / options.temperature, moved);
  if (options.detach_target) s = s.detach();
  Tensor slope = at::full_like(zero, options.target_slope());
  if (inputs.reads_absent()) {  // s = 0
    s = at::where(*absent, zero, s);
    slope = at::where(*absent, zero, slope);
  }
  if (options.pseudo_weight != 0) {
    const Tensor factor = 2 * options.pseudo_weight * (1 - slope);
    to_weak = to_weak + at::where(known, zero, factor * grad_unknown * (a - s) * a * (1 - a));
  }
  if (!inputs.reads_strong()) return {to_weak.to(weak.scalar_type()), Tensor()};

  Tensor to_strong = inputs.both_views() ? known_slope(*strong) : at::zeros_like(to_weak);
  if (inputs.has_consistency()) {
    // d(consistency)/dz_s = 2 (a_s - s) da_s/dz_s, and by z_w that through -s
    const Tensor a_strong = at::sigmoid(at::where(known, zero, strong->to(type)));
    const Tensor gap = 2 * options.consistency_weight * grad_unknown * (a_strong - s);
    to_strong = to_strong + at::where(known, zero, gap * a_strong * (1 - a_strong));
    if (!options.detach_target)
      to_weak = to_weak - at::where(known, zero, slope * gap * a * (1 - a));
  }
  return {to_weak.to(weak.scalar_type()), to_strong.to(strong->scalar_type())};
}

LossPair differentiable_backward(const LossInputs& inputs, const LossGradients& gradients) {
  const bool differentiable = gradients.grad.requires_grad() || inputs.weak.requires_grad() ||
                              (inputs.strong.has_value() && inputs.strong->requires_grad());
  if (at::GradMode::is_enabled() && differentiable) {  // backward with create_graph=True
    check_loss_gradients(inputs, gradients);
    return composed_gradients(inputs, gradients);
  }
  const at::AutoDispatchBelowADInplaceOrView guard;
  return call_backward(inputs, gradients);
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, Autograd, m) {
  m.impl("partial_label_loss_terms", with_terms_schema<differentiable>);
  m.impl("_partial_label_loss_backward", with_backward_schema<differentiable_backward>);
}

}  // namespace labelassemble
