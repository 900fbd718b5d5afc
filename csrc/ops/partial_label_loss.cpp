// partial_label_loss: schemas, checks, Meta and Autocast; Autograd is in
// partial_label_loss_autograd.cpp, the devices' kernels are in cpu/, cuda/.
#include "ops/partial_label_loss.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include <cmath>

#include "ops/partial_label_loss_formula.h"

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

// The sign of a NaN says nothing, and streams print it.
double shown(double value) { return std::isnan(value) ? std::abs(value) : value; }

}  // namespace

Reduction parse_reduction(std::string_view reduction) {
  if (reduction == "mean") return Reduction::kMean;
  if (reduction == "sum") return Reduction::kSum;
  TORCH_CHECK(reduction == "none", "partial_label_loss: reduction must be mean, sum or none, got ",
              reduction);
  return Reduction::kNone;
}

LossNumbers to_numbers(const LossOptions& options) {
  return {options.threshold,
          options.temperature,
          options.pseudo_weight,
          options.consistency_weight,
          options.detach_target ? 1.0 : 0.0,
          static_cast<double>(options.reduction),
          options.strong_known ? 1.0 : 0.0};
}

LossOptions from_numbers(at::ArrayRef<double> numbers) {
  TORCH_CHECK(numbers.size() == LossNumbers().size(), "partial_label_loss: options must be ",
              LossNumbers().size(), " numbers, got ", numbers.size());
  return {numbers[0],     numbers[1],      numbers[2],
          numbers[3],     numbers[4] != 0, static_cast<Reduction>(static_cast<int>(numbers[5])),
          numbers[6] != 0};
}

void check_loss_inputs(const LossInputs& inputs) {
  const auto& [logits_weak, logits_strong, targets, pos_weight, class_weight, absent, options] =
      inputs;
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
  if (absent.has_value()) {
    TORCH_CHECK(absent->sym_sizes() == logits_weak.sym_sizes(),
                "partial_label_loss: absent must have the shape of logits_weak, got ",
                absent->sym_sizes(), " and ", logits_weak.sym_sizes());
    TORCH_CHECK(absent->scalar_type() == at::kBool, "partial_label_loss: absent must be bool, got ",
                absent->scalar_type());
    TORCH_CHECK(absent->device() == logits_weak.device(),
                "partial_label_loss: absent must be on the device of logits_weak, got ",
                absent->device(), " and ", logits_weak.device());
  }
  TORCH_CHECK(options.threshold > 0 && options.threshold < 1,
              "partial_label_loss: threshold must lie between 0 and 1, got ",
              shown(options.threshold));
  TORCH_CHECK(options.temperature >= 1, "partial_label_loss: temperature must be at least 1, got ",
              shown(options.temperature));
  TORCH_CHECK(options.pseudo_weight >= 0 && std::isfinite(options.pseudo_weight),
              "partial_label_loss: pseudo_weight must be finite and not negative, got ",
              shown(options.pseudo_weight));
  TORCH_CHECK(options.consistency_weight >= 0 && std::isfinite(options.consistency_weight),
              "partial_label_loss: consistency_weight must be finite and not negative, got ",
              shown(options.consistency_weight));
}

void check_loss_gradients(const LossInputs& inputs, const LossGradients& gradients) {
  check_loss_inputs(inputs);
  TORCH_CHECK(gradients.grad.scalar_type() == inputs.accumulation(),
              "partial_label_loss: grad must be ", inputs.accumulation(), ", got ",
              gradients.grad.scalar_type());
}

void check_weight_value(const char* name, double value) {
  TORCH_CHECK(value >= 0 && std::isfinite(value), "partial_label_loss: ", name,
              " must be finite and not negative, got ", shown(value));
}

void refuse_targets(const LossInputs& inputs) {
  const bool integer = at::isIntegralType(inputs.targets.scalar_type(), /*includeBool=*/true);
  const Tensor targets = inputs.targets.to(inputs.accumulation());
  Tensor outside = targets * (1 - targets) < -kTargetRounding;  // as target_margin
  if (integer) outside = outside.logical_and(targets != -1);
  const Tensor first = outside.nonzero()[0].contiguous();
  const double value = targets.masked_select(outside)[0].item<double>();
  const at::IntArrayRef place(first.const_data_ptr<std::int64_t>(),
                              static_cast<std::size_t>(first.numel()));
  TORCH_CHECK(false, "partial_label_loss: targets must lie in [0, 1] or be ",
              integer ? "-1" : "NaN", " where unknown, got ", value, " at ", place,
              " (unknown and uncertain labels are NaN in floating targets, -1 in signed integers)");
}

Tensor along_classes(const Tensor& vector, const Tensor& logits) {
  at::DimVector shape(logits.dim(), 1);
  shape[1] = logits.size(1);
  return vector.view(shape);
}

namespace {

LossPair meta_forward(const LossInputs& inputs, bool /*validate*/) {
  check_loss_inputs(inputs);
  const auto type = inputs.weak.options().dtype(inputs.accumulation());
  return {inputs.per_entry() ? at::empty_like(inputs.weak, type) : at::empty({}, type),
          at::empty({5}, type.dtype(at::kDouble))};
}

LossPair meta_backward(const LossInputs& inputs, const LossGradients& gradients) {
  check_loss_gradients(inputs, gradients);
  return {gradients.need_weak ? at::empty_like(inputs.weak) : Tensor(),
          gradients.need_strong ? at::empty_like(*inputs.strong) : Tensor()};
}

// The kernels compute in float whatever the logits are, so autocast only makes the two views'
// dtypes equal.
template <at::DeviceType device>
LossPair autocast(const LossInputs& inputs, bool validate) {
  const c10::impl::ExcludeDispatchKeyGuard guard(
      c10::DispatchKeySet(at::autocast::get_autocast_dispatch_key_from_device_type(device)));
  if (!inputs.strong.has_value()) return partial_label_loss_terms(inputs, validate);
  const at::ScalarType dtype =
      at::promote_types(inputs.weak.scalar_type(), inputs.strong->scalar_type());
  const Tensor weak = inputs.weak.to(dtype);
  const OptionalTensor strong = inputs.strong->to(dtype);
  return partial_label_loss_terms({weak, strong, inputs.targets, inputs.pos_weight,
                                   inputs.class_weight, inputs.absent, inputs.options},
                                  validate);
}

const char* name_of(Reduction reduction) {
  if (reduction == Reduction::kNone) return "none";
  return reduction == Reduction::kMean ? "mean" : "sum";
}

}  // namespace

LossPair partial_label_loss_terms(const LossInputs& inputs, bool validate) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::partial_label_loss_terms", "")
                             .typed<decltype(with_terms_schema<partial_label_loss_terms>)>();
  const auto& [weak, strong, targets, pos_weight, class_weight, absent, options] = inputs;
  return op.call(weak, strong, targets, options.threshold, options.temperature,
                 options.pseudo_weight, options.consistency_weight, pos_weight, class_weight,
                 options.detach_target, name_of(options.reduction), validate, options.strong_known,
                 absent);
}

Tensor partial_label_loss(const LossInputs& inputs, bool validate) {
  return std::get<0>(partial_label_loss_terms(inputs, validate));
}

Tensor masked_bce_with_logits(const Tensor& logits, const Tensor& targets,
                              const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                              std::string_view reduction, bool validate) {
  return with_schema<partial_label_loss>(logits, std::nullopt, targets, 0.5, 1.0, 0.0, 0.0,
                                         pos_weight, class_weight, true, reduction, validate);
}

#define LOSS_PARAMETERS                                                                         \
  "Tensor logits_weak, Tensor? logits_strong, Tensor targets, float threshold=0.5, float "      \
  "temperature=4.0, float pseudo_weight=1.0, float consistency_weight=1.0, Tensor? "            \
  "pos_weight=None, Tensor? class_weight=None, bool detach_target=True, str reduction='mean', " \
  "bool validate=True"

// partial_label_loss and masked_bce_with_logits are made of partial_label_loss_terms, so its
// kernels, derivative and autocast rule are theirs.
TORCH_LIBRARY_FRAGMENT(labelassemble, m) {
  m.def("partial_label_loss_terms(" LOSS_PARAMETERS
        ", bool strong_known=False, Tensor? absent=None) -> (Tensor, Tensor)");
  m.def("partial_label_loss(" LOSS_PARAMETERS ") -> Tensor", with_schema<partial_label_loss>);
  m.def(
      "masked_bce_with_logits(Tensor logits, Tensor targets, Tensor? pos_weight=None, Tensor? "
      "class_weight=None, str reduction='mean', bool validate=True) -> Tensor",
      masked_bce_with_logits);
  m.def(
      "_partial_label_loss_backward(Tensor grad, Tensor logits_weak, Tensor? logits_strong, Tensor "
      "targets, Tensor? pos_weight, Tensor? class_weight, Tensor terms, float[] options, bool "
      "need_weak, bool need_strong, Tensor? absent=None) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(labelassemble, AutocastCPU, m) {
  m.impl("partial_label_loss_terms", with_terms_schema<autocast<at::kCPU>>);
}

TORCH_LIBRARY_IMPL(labelassemble, AutocastCUDA, m) {
  m.impl("partial_label_loss_terms", with_terms_schema<autocast<at::kCUDA>>);
}

TORCH_LIBRARY_IMPL(labelassemble, Meta, m) {
  m.impl("partial_label_loss_terms", with_terms_schema<meta_forward>);
  m.impl("_partial_label_loss_backward", with_backward_schema<meta_backward>);
}

}  // namespace labelassemble
