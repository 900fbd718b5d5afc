// partial_label_loss: schemas, checks, Meta and Autocast; Autograd is in
// partial_label_loss_autograd.cpp, the devices' kernels are in cpu/, cuda/.
#include "ops/partial_label_loss.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include <cmath>

#include "ops/partial_label_loss_passes.h"

namespace labelassemble {

namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

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

}  // namespace

at::ScalarType accumulation_type(at::ScalarType logits) {
  return logits == at::kDouble ? at::kDouble : at::kFloat;
}

Reduction parse_reduction(std::string_view reduction) {
  if (reduction == "mean") return Reduction::kMean;
  if (reduction == "sum") return Reduction::kSum;
  TORCH_CHECK(reduction == "none", "partial_label_loss: reduction must be mean, sum or none, got ",
              reduction);
  return Reduction::kNone;
}

Reduction parse_terms_reduction(std::string_view reduction) {
  const Reduction parsed = parse_reduction(reduction);
  TORCH_CHECK(parsed != Reduction::kNone,
              "partial_label_loss_terms: reduction must be mean or sum, got none");
  return parsed;
}

void check_loss_inputs(const LossInputs& inputs) {
  const auto& [logits_weak, logits_strong, targets, pos_weight, class_weight, options] = inputs;
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

void check_target_values(const Tensor& targets) {
  const bool integer = at::isIntegralType(targets.scalar_type(), /*includeBool=*/false);
  const Tensor outside =
      integer ? (targets < -1).logical_or_(targets > 1) : (targets < 0).logical_or_(targets > 1);
  if (!outside.any().item<bool>()) return;
  const Tensor first = targets.masked_select(outside)[0].to(at::kDouble);
  TORCH_CHECK(false, "partial_label_loss: targets must lie in [0, 1] or be ",
              integer ? "-1" : "NaN", " where unknown, got ", first.item<double>());
}

Tensor along_classes(const Tensor& vector, const Tensor& logits) {
  at::DimVector shape(logits.dim(), 1);
  shape[1] = logits.size(1);
  return vector.view(shape);
}

LossPair call_loss_forward(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                           const Tensor& targets, const OptionalTensor& pos_weight,
                           const OptionalTensor& class_weight, double threshold, double temperature,
                           double pseudo_weight, double consistency_weight, int64_t reduction,
                           bool validate) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::_partial_label_loss_forward", "")
                             .typed<decltype(call_loss_forward)>();
  return op.call(logits_weak, logits_strong, targets, pos_weight, class_weight, threshold,
                 temperature, pseudo_weight, consistency_weight, reduction, validate);
}

LossPair call_loss_backward(const Tensor& grad, const Tensor& logits_weak,
                            const OptionalTensor& logits_strong, const Tensor& targets,
                            const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                            const Tensor& terms, double threshold, double temperature,
                            double pseudo_weight, double consistency_weight, bool detach_target,
                            int64_t reduction, bool need_weak, bool need_strong) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::_partial_label_loss_backward", "")
                             .typed<decltype(call_loss_backward)>();
  return op.call(grad, logits_weak, logits_strong, targets, pos_weight, class_weight, terms,
                 threshold, temperature, pseudo_weight, consistency_weight, detach_target,
                 reduction, need_weak, need_strong);
}

namespace {

LossPair meta_forward(const LossInputs& inputs, bool /*validate*/) {
  const auto type = inputs.weak.options().dtype(inputs.accumulation());
  return {inputs.per_entry() ? at::empty_like(inputs.weak, type) : at::empty({}, type),
          at::empty({5}, type.dtype(at::kDouble))};
}

LossPair meta_backward(const LossInputs& inputs, const Tensor& /*grad*/, const Tensor& /*terms*/,
                       bool need_weak, bool need_strong) {
  return {need_weak ? at::empty_like(inputs.weak) : Tensor(),
          need_strong ? at::empty_like(*inputs.strong) : Tensor()};
}

// Below autograd (inference_mode): no graph, the forward alone. Meta comes here too.
Tensor loss_below(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                  const Tensor& targets, double threshold, double temperature, double pseudo_weight,
                  double consistency_weight, const OptionalTensor& pos_weight,
                  const OptionalTensor& class_weight, bool /*detach_target*/,
                  std::string_view reduction, bool validate) {
  return std::get<0>(call_loss_forward(logits_weak, logits_strong, targets, pos_weight,
                                       class_weight, threshold, temperature, pseudo_weight,
                                       consistency_weight,
                                       static_cast<int64_t>(parse_reduction(reduction)), validate));
}

LossPair terms_below(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                     const Tensor& targets, double threshold, double temperature,
                     double pseudo_weight, double consistency_weight,
                     const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                     bool /*detach_target*/, std::string_view reduction, bool validate) {
  return call_loss_forward(logits_weak, logits_strong, targets, pos_weight, class_weight, threshold,
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
LossPair terms_autocast(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                        const Tensor& targets, double threshold, double temperature,
                        double pseudo_weight, double consistency_weight,
                        const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                        bool detach_target, std::string_view reduction, bool validate) {
  c10::impl::ExcludeDispatchKeyGuard guard(
      c10::DispatchKeySet(at::autocast::get_autocast_dispatch_key_from_device_type(device)));
  const Tensor weak = with_dtype_of(logits_weak, logits_strong);
  return partial_label_loss_terms(weak, with_dtype_of(logits_strong, weak), targets, threshold,
                                  temperature, pseudo_weight, consistency_weight, pos_weight,
                                  class_weight, detach_target, reduction, validate);
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

LossPair partial_label_loss_terms(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                                  const Tensor& targets, double threshold, double temperature,
                                  double pseudo_weight, double consistency_weight,
                                  const OptionalTensor& pos_weight,
                                  const OptionalTensor& class_weight, bool detach_target,
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
  m.impl("_partial_label_loss_forward", loss_forward_op<meta_forward>);
  m.impl("_partial_label_loss_backward", loss_backward_op<meta_backward>);
}

}  // namespace labelassemble
