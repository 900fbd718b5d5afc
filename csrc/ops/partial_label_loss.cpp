// partial_label_loss: schemas, checks, Meta, Autograd and Autocast; the devices' kernels are in
// cpu/, cuda/.
//
// The forward keeps five float64 numbers (terms and counts) for the backward, which computes the
// probabilities anew: reading the inputs again is cheaper than writing and reading what could be
// kept.
#include "ops/partial_label_loss.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>

namespace labelassemble {

namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

Reduction parse_reduction(std::string_view reduction) {
  if (reduction == "mean") return Reduction::kMean;
  if (reduction == "sum") return Reduction::kSum;
  TORCH_CHECK(reduction == "none", "partial_label_loss: reduction must be mean, sum or none, got ",
              reduction);
  return Reduction::kNone;
}

void check_class_vector(const char* name, const OptionalTensor& vector, const Tensor& logits) {
  if (!vector.has_value()) return;
  TORCH_CHECK(vector->dim() == 1 && vector->sym_size(0) == logits.sym_size(1),
              "partial_label_loss: ", name, " must have one value a class, [", logits.sym_size(1),
              "], got ", vector->sym_sizes());
  TORCH_CHECK(at::isFloatingType(vector->scalar_type()), "partial_label_loss: ", name,
              " must be floating, got ", vector->scalar_type());
  TORCH_CHECK(vector->device() == logits.device(), "partial_label_loss: ", name, " must be on ",
              logits.device(), " as logits_weak, got ", vector->device());
}

void check_no_gradient(const char* name, const Tensor& tensor) {
  TORCH_CHECK(!tensor.requires_grad(), "partial_label_loss: ", name,
              " must not require a gradient: it is taken as a constant");
}

}  // namespace

at::ScalarType accumulation_type(at::ScalarType logits) {
  return logits == at::kDouble ? at::kDouble : at::kFloat;
}

void check_loss_inputs(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                       const Tensor& targets, const OptionalTensor& pos_weight,
                       const OptionalTensor& class_weight, const LossOptions& options) {
  const at::ScalarType dtype = logits_weak.scalar_type();
  TORCH_CHECK(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16,
      "partial_label_loss: logits_weak must be float32, float64, float16 or bfloat16, got ", dtype);
  TORCH_CHECK(logits_weak.dim() >= 2,
              "partial_label_loss: logits_weak must be [B, C, *spatial], got ",
              logits_weak.sym_sizes());
  if (logits_strong.has_value()) {
    TORCH_CHECK(logits_strong->sym_sizes() == logits_weak.sym_sizes(),
                "partial_label_loss: logits_strong must have the shape of logits_weak, got ",
                logits_strong->sym_sizes(), " and ", logits_weak.sym_sizes());
    TORCH_CHECK(logits_strong->scalar_type() == dtype,
                "partial_label_loss: logits_strong must have the dtype of logits_weak, got ",
                logits_strong->scalar_type(), " and ", dtype);
    TORCH_CHECK(logits_strong->device() == logits_weak.device(),
                "partial_label_loss: logits_strong must be on the device of logits_weak, got ",
                logits_strong->device(), " and ", logits_weak.device());
  }
  TORCH_CHECK(targets.sym_sizes() == logits_weak.sym_sizes(),
              "partial_label_loss: targets must have the shape of logits_weak, got ",
              targets.sym_sizes(), " and ", logits_weak.sym_sizes());
  const at::ScalarType target = targets.scalar_type();
  TORCH_CHECK(target == at::kFloat || target == at::kDouble || target == at::kHalf ||
                  target == at::kBFloat16 || at::isIntegralType(target, /*includeBool=*/true),
              "partial_label_loss: targets must be floating, integer or bool, got ", target);
  TORCH_CHECK(targets.device() == logits_weak.device(),
              "partial_label_loss: targets must be on the device of logits_weak, got ",
              targets.device(), " and ", logits_weak.device());
  check_class_vector("pos_weight", pos_weight, logits_weak);
  check_class_vector("class_weight", class_weight, logits_weak);
  TORCH_CHECK(options.threshold > 0 && options.threshold < 1,
              "partial_label_loss: threshold must lie between 0 and 1, got ", options.threshold);
  TORCH_CHECK(options.temperature >= 1, "partial_label_loss: temperature must be at least 1, got ",
              options.temperature);
  TORCH_CHECK(options.pseudo_weight >= 0 && std::isfinite(options.pseudo_weight),
              "partial_label_loss: pseudo_weight must be finite and not negative, got ",
              options.pseudo_weight);
  TORCH_CHECK(options.consistency_weight >= 0 && std::isfinite(options.consistency_weight),
              "partial_label_loss: consistency_weight must be finite and not negative, got ",
              options.consistency_weight);
}

namespace {

std::tuple<Tensor, Tensor> call_forward(const Tensor& logits_weak,
                                        const OptionalTensor& logits_strong, const Tensor& targets,
                                        const OptionalTensor& pos_weight,
                                        const OptionalTensor& class_weight, double threshold,
                                        double temperature, double pseudo_weight,
                                        double consistency_weight, int64_t reduction,
                                        bool validate) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::_partial_label_loss_forward", "")
                             .typed<decltype(call_forward)>();
  return op.call(logits_weak, logits_strong, targets, pos_weight, class_weight, threshold,
                 temperature, pseudo_weight, consistency_weight, reduction, validate);
}

std::tuple<Tensor, Tensor> call_backward(const Tensor& grad, const Tensor& logits_weak,
                                         const OptionalTensor& logits_strong, const Tensor& targets,
                                         const OptionalTensor& pos_weight,
                                         const OptionalTensor& class_weight, const Tensor& terms,
                                         double threshold, double temperature, double pseudo_weight,
                                         double consistency_weight, bool detach_target,
                                         int64_t reduction, bool need_weak, bool need_strong) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::_partial_label_loss_backward", "")
                             .typed<decltype(call_backward)>();
  return op.call(grad, logits_weak, logits_strong, targets, pos_weight, class_weight, terms,
                 threshold, temperature, pseudo_weight, consistency_weight, detach_target,
                 reduction, need_weak, need_strong);
}

std::tuple<Tensor, Tensor> meta_forward(const Tensor& logits_weak,
                                        const OptionalTensor& logits_strong, const Tensor& targets,
                                        const OptionalTensor& pos_weight,
                                        const OptionalTensor& class_weight, double threshold,
                                        double temperature, double pseudo_weight,
                                        double consistency_weight, int64_t reduction,
                                        bool /*validate*/) {
  const LossOptions options{threshold,          temperature, pseudo_weight,
                            consistency_weight, true,        static_cast<Reduction>(reduction)};
  check_loss_inputs(logits_weak, logits_strong, targets, pos_weight, class_weight, options);
  const auto loss_options =
      logits_weak.options().dtype(accumulation_type(logits_weak.scalar_type()));
  Tensor loss = options.reduction == Reduction::kNone ? at::empty_like(logits_weak, loss_options)
                                                      : at::empty({}, loss_options);
  return {std::move(loss), at::empty({5}, logits_weak.options().dtype(at::kDouble))};
}

std::tuple<Tensor, Tensor> meta_backward(
    const Tensor& /*grad*/, const Tensor& logits_weak, const OptionalTensor& logits_strong,
    const Tensor& /*targets*/, const OptionalTensor& /*pos_weight*/,
    const OptionalTensor& /*class_weight*/, const Tensor& /*terms*/, double /*threshold*/,
    double /*temperature*/, double /*pseudo_weight*/, double /*consistency_weight*/,
    bool /*detach_target*/, int64_t /*reduction*/, bool need_weak, bool need_strong) {
  return {need_weak ? at::empty_like(logits_weak) : Tensor(),
          need_strong ? at::empty_like(*logits_strong) : Tensor()};
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
        call_forward(logits_weak, logits_strong, targets, pos_weight, class_weight, threshold,
                     temperature, pseudo_weight, consistency_weight, reduction, validate);
    ctx->save_for_backward({logits_weak, logits_strong.value_or(Tensor()), targets,
                            pos_weight.value_or(Tensor()), class_weight.value_or(Tensor()), terms});
    ctx->saved_data["options"] =
        std::vector<double>{threshold, temperature, pseudo_weight, consistency_weight};
    ctx->saved_data["detach_target"] = detach_target;
    ctx->saved_data["reduction"] = reduction;
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
    std::tie(result[0], result[1]) =
        call_backward(grads[0], saved[0], optional(saved[1]), saved[2], optional(saved[3]),
                      optional(saved[4]), saved[5], options[0], options[1], options[2], options[3],
                      ctx->saved_data["detach_target"].toBool(),
                      ctx->saved_data["reduction"].toInt(), ctx->needs_input_grad(0),
                      saved[1].defined() && options[3] != 0 && ctx->needs_input_grad(1));
    return result;
  }
};

std::tuple<Tensor, Tensor> autograd_loss(const Tensor& logits_weak,
                                         const OptionalTensor& logits_strong, const Tensor& targets,
                                         double threshold, double temperature, double pseudo_weight,
                                         double consistency_weight,
                                         const OptionalTensor& pos_weight,
                                         const OptionalTensor& class_weight, bool detach_target,
                                         Reduction reduction, bool validate) {
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

Reduction parse_terms_reduction(std::string_view reduction) {
  const Reduction parsed = parse_reduction(reduction);
  TORCH_CHECK(parsed != Reduction::kNone,
              "partial_label_loss_terms: reduction must be mean or sum, got none");
  return parsed;
}

std::tuple<Tensor, Tensor> terms_autograd(
    const Tensor& logits_weak, const OptionalTensor& logits_strong, const Tensor& targets,
    double threshold, double temperature, double pseudo_weight, double consistency_weight,
    const OptionalTensor& pos_weight, const OptionalTensor& class_weight, bool detach_target,
    std::string_view reduction, bool validate) {
  return autograd_loss(logits_weak, logits_strong, targets, threshold, temperature, pseudo_weight,
                       consistency_weight, pos_weight, class_weight, detach_target,
                       parse_terms_reduction(reduction), validate);
}

// Below autograd (inference_mode): no graph, the forward alone. Meta comes here too.
Tensor loss_below(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                  const Tensor& targets, double threshold, double temperature, double pseudo_weight,
                  double consistency_weight, const OptionalTensor& pos_weight,
                  const OptionalTensor& class_weight, bool /*detach_target*/,
                  std::string_view reduction, bool validate) {
  return std::get<0>(call_forward(logits_weak, logits_strong, targets, pos_weight, class_weight,
                                  threshold, temperature, pseudo_weight, consistency_weight,
                                  static_cast<int64_t>(parse_reduction(reduction)), validate));
}

std::tuple<Tensor, Tensor> terms_below(const Tensor& logits_weak,
                                       const OptionalTensor& logits_strong, const Tensor& targets,
                                       double threshold, double temperature, double pseudo_weight,
                                       double consistency_weight, const OptionalTensor& pos_weight,
                                       const OptionalTensor& class_weight, bool /*detach_target*/,
                                       std::string_view reduction, bool validate) {
  return call_forward(logits_weak, logits_strong, targets, pos_weight, class_weight, threshold,
                      temperature, pseudo_weight, consistency_weight,
                      static_cast<int64_t>(parse_terms_reduction(reduction)), validate);
}

// The kernels compute in float whatever the logits are, so autocast only makes the two views'
// dtypes equal.
OptionalTensor with_dtype_of(const OptionalTensor& logits_strong, const Tensor& logits_weak) {
  if (!logits_strong.has_value() || logits_strong->scalar_type() == logits_weak.scalar_type())
    return logits_strong;
  return logits_strong->to(
      at::promote_types(logits_strong->scalar_type(), logits_weak.scalar_type()));
}

Tensor with_dtype_of(const Tensor& logits_weak, const OptionalTensor& logits_strong) {
  return logits_strong.has_value() ? *with_dtype_of(OptionalTensor(logits_weak), *logits_strong)
                                   : logits_weak;
}

template <at::DeviceType device>
Tensor loss_autocast(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                     const Tensor& targets, double threshold, double temperature,
                     double pseudo_weight, double consistency_weight,
                     const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                     bool detach_target, std::string_view reduction, bool validate) {
  c10::impl::ExcludeDispatchKeyGuard guard(
      c10::DispatchKeySet(at::autocast::get_autocast_dispatch_key_from_device_type(device)));
  const Tensor weak = with_dtype_of(logits_weak, logits_strong);
  return partial_label_loss(weak, with_dtype_of(logits_strong, weak), targets, threshold,
                            temperature, pseudo_weight, consistency_weight, pos_weight,
                            class_weight, detach_target, reduction, validate);
}

template <at::DeviceType device>
std::tuple<Tensor, Tensor> terms_autocast(
    const Tensor& logits_weak, const OptionalTensor& logits_strong, const Tensor& targets,
    double threshold, double temperature, double pseudo_weight, double consistency_weight,
    const OptionalTensor& pos_weight, const OptionalTensor& class_weight, bool detach_target,
    std::string_view reduction, bool validate) {
  c10::impl::ExcludeDispatchKeyGuard guard(
      c10::DispatchKeySet(at::autocast::get_autocast_dispatch_key_from_device_type(device)));
  const Tensor weak = with_dtype_of(logits_weak, logits_strong);
  return partial_label_loss_terms(weak, with_dtype_of(logits_strong, weak), targets, threshold,
                                  temperature, pseudo_weight, consistency_weight, pos_weight,
                                  class_weight, detach_target, reduction, validate);
}

std::tuple<Tensor, Tensor> refuse_double_backward(
    const Tensor& grad, const Tensor& logits_weak, const OptionalTensor& logits_strong,
    const Tensor& targets, const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
    const Tensor& terms, double threshold, double temperature, double pseudo_weight,
    double consistency_weight, bool detach_target, int64_t reduction, bool need_weak,
    bool need_strong) {
  const bool differentiable = grad.requires_grad() || logits_weak.requires_grad() ||
                              (logits_strong.has_value() && logits_strong->requires_grad());
  TORCH_CHECK(!at::GradMode::is_enabled() || !differentiable,
              "partial_label_loss: second derivatives are not supported (backward was called with "
              "create_graph=True); labelassemble.ops.partial_label_loss.reference has them");
  at::AutoDispatchBelowADInplaceOrView guard;
  return call_backward(grad, logits_weak, logits_strong, targets, pos_weight, class_weight, terms,
                       threshold, temperature, pseudo_weight, consistency_weight, detach_target,
                       reduction, need_weak, need_strong);
}

Tensor masked_bce_composite(const Tensor& logits, const Tensor& targets,
                            const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                            std::string_view reduction, bool validate) {
  return partial_label_loss(logits, std::nullopt, targets, 0.5, 1.0, 0.0, 0.0, pos_weight,
                            class_weight, true, reduction, validate);
}

}  // namespace

Tensor partial_label_loss(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                          const Tensor& targets, double threshold, double temperature,
                          double pseudo_weight, double consistency_weight,
                          const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                          bool detach_target, std::string_view reduction, bool validate) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::partial_label_loss", "")
                             .typed<decltype(partial_label_loss)>();
  return op.call(logits_weak, logits_strong, targets, threshold, temperature, pseudo_weight,
                 consistency_weight, pos_weight, class_weight, detach_target, reduction, validate);
}

std::tuple<Tensor, Tensor> partial_label_loss_terms(
    const Tensor& logits_weak, const OptionalTensor& logits_strong, const Tensor& targets,
    double threshold, double temperature, double pseudo_weight, double consistency_weight,
    const OptionalTensor& pos_weight, const OptionalTensor& class_weight, bool detach_target,
    std::string_view reduction, bool validate) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::partial_label_loss_terms", "")
                             .typed<decltype(partial_label_loss_terms)>();
  return op.call(logits_weak, logits_strong, targets, threshold, temperature, pseudo_weight,
                 consistency_weight, pos_weight, class_weight, detach_target, reduction, validate);
}

Tensor masked_bce_with_logits(const Tensor& logits, const Tensor& targets,
                              const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                              std::string_view reduction, bool validate) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::masked_bce_with_logits", "")
                             .typed<decltype(masked_bce_with_logits)>();
  return op.call(logits, targets, pos_weight, class_weight, reduction, validate);
}

TORCH_LIBRARY_FRAGMENT(labelassemble, m) {
  m.def(
      "partial_label_loss(Tensor logits_weak, Tensor? logits_strong, Tensor targets, float "
      "threshold=0.5, "
      "float temperature=4.0, float pseudo_weight=1.0, float consistency_weight=1.0, Tensor? "
      "pos_weight=None, "
      "Tensor? class_weight=None, bool detach_target=True, str reduction='mean', bool "
      "validate=False) -> Tensor");
  m.def(
      "partial_label_loss_terms(Tensor logits_weak, Tensor? logits_strong, Tensor targets, float "
      "threshold=0.5, "
      "float temperature=4.0, float pseudo_weight=1.0, float consistency_weight=1.0, Tensor? "
      "pos_weight=None, "
      "Tensor? class_weight=None, bool detach_target=True, str reduction='mean', bool "
      "validate=False) "
      "-> (Tensor, Tensor)");
  m.def(
      "masked_bce_with_logits(Tensor logits, Tensor targets, Tensor? pos_weight=None, Tensor? "
      "class_weight=None, "
      "str reduction='mean', bool validate=False) -> Tensor",
      masked_bce_composite);
  m.def(
      "_partial_label_loss_forward(Tensor logits_weak, Tensor? logits_strong, Tensor targets, "
      "Tensor? pos_weight, Tensor? class_weight, float threshold, float temperature, float "
      "pseudo_weight, "
      "float consistency_weight, int reduction, bool validate) -> (Tensor, Tensor)");
  m.def(
      "_partial_label_loss_backward(Tensor grad, Tensor logits_weak, Tensor? logits_strong, Tensor "
      "targets, "
      "Tensor? pos_weight, Tensor? class_weight, Tensor terms, float threshold, float temperature, "
      "float pseudo_weight, float consistency_weight, bool detach_target, int reduction, bool "
      "need_weak, "
      "bool need_strong) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(labelassemble, Autograd, m) {
  m.impl("partial_label_loss", loss_autograd);
  m.impl("partial_label_loss_terms", terms_autograd);
  m.impl("_partial_label_loss_backward", refuse_double_backward);
}

TORCH_LIBRARY_IMPL(labelassemble, CompositeExplicitAutograd, m) {
  m.impl("partial_label_loss", loss_below);
  m.impl("partial_label_loss_terms", terms_below);
}

TORCH_LIBRARY_IMPL(labelassemble, AutocastCPU, m) {
  m.impl("partial_label_loss", loss_autocast<at::kCPU>);
  m.impl("partial_label_loss_terms", terms_autocast<at::kCPU>);
}

TORCH_LIBRARY_IMPL(labelassemble, AutocastCUDA, m) {
  m.impl("partial_label_loss", loss_autocast<at::kCUDA>);
  m.impl("partial_label_loss_terms", terms_autocast<at::kCUDA>);
}

TORCH_LIBRARY_IMPL(labelassemble, Meta, m) {
  m.impl("_partial_label_loss_forward", meta_forward);
  m.impl("_partial_label_loss_backward", meta_backward);
}

}  // namespace labelassemble
