// partial_label_loss on CUDA: checks, memory and launch; the kernels are in
// partial_label_loss_kernel.cu.
#include "ops/partial_label_loss.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "ops/cuda/operands.h"

namespace labelassemble::cuda {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor along_classes(const Tensor& vector, const Tensor& logits) {
  at::DimVector shape(logits.dim(), 1);
  shape[1] = logits.size(1);
  return vector.view(shape);
}

void add_inputs(Operands& operands, LossArguments& arguments, const Tensor& weak,
                const OptionalTensor& strong, const Tensor& targets,
                const OptionalTensor& pos_weight, const OptionalTensor& class_weight,
                const LossOptions& options) {
  operands.add_input(weak, arguments.weak);
  operands.add_input(targets, arguments.targets);
  // A strong view whose term has no weight is not read.
  if (strong.has_value() && options.consistency_weight != 0)
    operands.add_input(*strong, arguments.strong);
  if (pos_weight.has_value())
    operands.add_input(along_classes(*pos_weight, weak), arguments.pos_weight);
  if (class_weight.has_value())
    operands.add_input(along_classes(*class_weight, weak), arguments.class_weight);
}

void finish(LossArguments& arguments, const Entries& entries, const LossOptions& options) {
  arguments.entries = entries;
  // Vectors are read of the logits' dtype, and of targets in it or, beside half precision, in
  // float.
  const bool same = arguments.targets.element == arguments.weak.element;
  const bool wide =
      arguments.targets.element == Element::kFloat && arguments.weak.element != Element::kDouble;
  arguments.entries.flat = entries.flat && (same || wide) && arguments.pos_weight.data == nullptr &&
                           arguments.class_weight.data == nullptr;
  arguments.in_double = arguments.weak.element == Element::kDouble;
  arguments.threshold = options.threshold;
  arguments.inverse_temperature = 1 / options.temperature;
  arguments.pseudo_weight = options.pseudo_weight;
  arguments.consistency_weight = options.consistency_weight;
  arguments.reduction = options.reduction == Reduction::kMean  ? LossReduction::kMean
                        : options.reduction == Reduction::kSum ? LossReduction::kSum
                                                               : LossReduction::kNone;
}

// The one place that waits for the device, on request.
void check_targets(const Tensor& targets) {
  const bool integer = at::isIntegralType(targets.scalar_type(), /*includeBool=*/false);
  const Tensor outside = (targets < (integer ? -1 : 0)).logical_or_(targets > 1);
  if (!outside.any().item<bool>()) return;
  const Tensor first = targets.masked_select(outside)[0].to(at::kDouble);
  TORCH_CHECK(false, "partial_label_loss: targets must lie in [0, 1] or be ",
              integer ? "-1" : "NaN", " where unknown, got ", first.item<double>());
}

std::tuple<Tensor, Tensor> forward(const Tensor& logits_weak, const OptionalTensor& logits_strong,
                                   const Tensor& targets, const OptionalTensor& pos_weight,
                                   const OptionalTensor& class_weight, double threshold,
                                   double temperature, double pseudo_weight,
                                   double consistency_weight, int64_t reduction, bool validate) {
  const LossOptions options{threshold,          temperature, pseudo_weight,
                            consistency_weight, true,        static_cast<Reduction>(reduction)};
  check_loss_inputs(logits_weak, logits_strong, targets, pos_weight, class_weight, options);
  const c10::cuda::CUDAGuard guard(logits_weak.device());
  if (validate) check_targets(targets);
  const auto type = logits_weak.options().dtype(accumulation_type(logits_weak.scalar_type()));
  const auto in_double = logits_weak.options().dtype(at::kDouble);
  const bool per_entry = options.reduction == Reduction::kNone;
  const Tensor loss = per_entry ? at::empty_like(logits_weak, type) : at::empty({}, type);
  const Tensor terms = at::empty({5}, in_double);

  LossForward launch;
  Operands operands;
  if (per_entry) operands.add_output(loss, launch.losses);
  add_inputs(operands, launch.arguments, logits_weak, logits_strong, targets, pos_weight,
             class_weight, options);
  finish(launch.arguments, operands.lay_out(), options);
  launch.loss = per_entry ? nullptr : loss.mutable_data_ptr();
  launch.terms = terms.mutable_data_ptr<double>();
  const int blocks = loss_blocks(launch.arguments.entries.total);
  Tensor partials;
  Tensor finished;
  if (blocks > 1) {
    partials = at::empty({blocks, 4}, in_double);
    finished = at::zeros({1}, logits_weak.options().dtype(at::kInt));
    launch.partials = partials.mutable_data_ptr<double>();
    launch.finished = reinterpret_cast<unsigned int*>(finished.mutable_data_ptr<int>());
  }
  C10_CUDA_CHECK(launch_loss_forward(launch, c10::cuda::getCurrentCUDAStream()));
  return {loss, terms};
}

std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& logits_weak,
                                    const OptionalTensor& logits_strong, const Tensor& targets,
                                    const OptionalTensor& pos_weight,
                                    const OptionalTensor& class_weight, const Tensor& terms,
                                    double threshold, double temperature, double pseudo_weight,
                                    double consistency_weight, bool detach_target,
                                    int64_t reduction, bool need_weak, bool need_strong) {
  const LossOptions options{threshold,          temperature,   pseudo_weight,
                            consistency_weight, detach_target, static_cast<Reduction>(reduction)};
  check_loss_inputs(logits_weak, logits_strong, targets, pos_weight, class_weight, options);
  const c10::cuda::CUDAGuard guard(logits_weak.device());
  const Tensor grad_weak = need_weak ? at::empty_like(logits_weak) : Tensor();
  const Tensor grad_strong = need_strong ? at::empty_like(*logits_strong) : Tensor();
  LossBackward launch;
  Operands operands;
  if (need_weak) operands.add_output(grad_weak, launch.grad_weak);
  if (need_strong) operands.add_output(grad_strong, launch.grad_strong);
  add_inputs(operands, launch.arguments, logits_weak, logits_strong, targets, pos_weight,
             class_weight, options);
  if (options.reduction == Reduction::kNone) {
    operands.add_input(grad, launch.grad);
  } else {
    launch.grad.data = static_cast<char*>(const_cast<void*>(grad.const_data_ptr()));
    launch.grad.element = element_of(grad);
  }
  finish(launch.arguments, operands.lay_out(), options);
  launch.target_slope = detach_target ? 0 : 1 - 1 / temperature;
  launch.terms = terms.const_data_ptr<double>();
  C10_CUDA_CHECK(launch_loss_backward(launch, c10::cuda::getCurrentCUDAStream()));
  return {grad_weak, grad_strong};
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, CUDA, m) {
  m.impl("_partial_label_loss_forward", forward);
  m.impl("_partial_label_loss_backward", backward);
}

}  // namespace labelassemble::cuda
