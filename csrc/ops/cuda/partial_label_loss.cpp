// partial_label_loss on CUDA: checks, memory and launch; the kernels are in
// partial_label_loss_kernel.cu.
#include "ops/partial_label_loss.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <atomic>
#include <utility>

#include "ops/cuda/operands.h"

namespace labelassemble::cuda {
namespace {

using at::Tensor;

void add_inputs(Operands& operands, LossArguments& arguments, const LossInputs& inputs) {
  operands.add_input(inputs.weak, arguments.weak);
  operands.add_input(inputs.targets, arguments.targets);
  if (inputs.reads_strong()) operands.add_input(*inputs.strong, arguments.strong);
  if (inputs.pos_weight.has_value())
    operands.add_input(along_classes(*inputs.pos_weight, inputs.weak), arguments.pos_weight);
  if (inputs.class_weight.has_value())
    operands.add_input(along_classes(*inputs.class_weight, inputs.weak), arguments.class_weight);
  if (inputs.reads_absent()) operands.add_input(*inputs.absent, arguments.absent);
}

// Runs with copies whose strides leave few axes.
template <typename Run>
LossPair with_dense(const LossInputs& inputs, const Run& run) {
  const Tensor weak = inputs.weak.contiguous();
  const Tensor targets = inputs.targets.contiguous();
  std::optional<Tensor> strong;
  if (inputs.strong.has_value()) strong = inputs.strong->contiguous();
  std::optional<Tensor> absent;
  if (inputs.absent.has_value()) absent = inputs.absent->contiguous();
  return run(
      {weak, strong, targets, inputs.pos_weight, inputs.class_weight, absent, inputs.options});
}

void finish(LossArguments& arguments, const Entries& entries, const LossInputs& inputs) {
  const LossOptions& options = inputs.options;
  arguments.entries = entries;
  // Vectors are read of the logits' dtype, and of targets in it or, beside half precision, in
  // float.
  const bool same = arguments.targets.element == arguments.weak.element;
  const bool wide =
      arguments.targets.element == Element::kFloat && arguments.weak.element != Element::kDouble;
  arguments.entries.flat = entries.flat && (same || wide) && arguments.pos_weight.data == nullptr &&
                           arguments.class_weight.data == nullptr &&
                           arguments.absent.data == nullptr;
  arguments.in_double = arguments.weak.element == Element::kDouble;
  arguments.options = options;
  arguments.options_in_double = {inputs.has_consistency(),   inputs.has_unknown(),
                                 inputs.both_views(),        options.threshold,
                                 1 / options.temperature,    options.pseudo_weight,
                                 options.consistency_weight, options.target_slope()};
  const auto& [strong, unknown, both, threshold, inverse, pseudo, consistency, slope] =
      arguments.options_in_double;
  arguments.options_in_float = {strong,
                                unknown,
                                both,
                                static_cast<float>(threshold),
                                static_cast<float>(inverse),
                                static_cast<float>(pseudo),
                                static_cast<float>(consistency),
                                static_cast<float>(slope)};
}

// What kernels refuse, of every device and stream of this process.
Refused& refused_values() {
  static Refused* const refused = [] {
    const c10::cuda::CUDAStreamCaptureModeGuard allow(cudaStreamCaptureModeRelaxed);
    void* memory = nullptr;
    C10_CUDA_CHECK(
        cudaHostAlloc(&memory, sizeof(Refused), cudaHostAllocMapped | cudaHostAllocPortable));
    return new (memory) Refused();
  }();
  return *refused;
}

// The value, and 0 in its place, so that a refusal is told once.
template <typename T>
double take(T& value) {
  return std::atomic_ref<T>(value).exchange(0);
}

template <typename T>
void raise_refused(RefusedValues<T>& refused) {
  const char* const when =
      " in an earlier call on CUDA, whose loss is NaN and whose gradient is 0 (unknown and "
      "uncertain "
      "labels are NaN in floating targets, -1 in signed integers)";
  const double target = take(refused.target);
  TORCH_CHECK(target == 0, "partial_label_loss: targets must lie in [0, 1] or be unknown, got ",
              target, when);
  for (auto [name, place] : {std::pair("pos_weight", &refused.pos_weight),
                             std::pair("class_weight", &refused.class_weight)}) {
    const double weight = take(*place);
    TORCH_CHECK(weight == 0, "partial_label_loss: ", name, " must be finite and not negative, got ",
                weight, when);
  }
}

// Raises what kernels have refused by now, without waiting for those that run.
void raise_refused() {
  raise_refused(refused_values().in_float);
  raise_refused(refused_values().in_double);
}

LossPair forward(const LossInputs& inputs, bool validate) {
  check_loss_inputs(inputs);
  const c10::cuda::CUDAGuard guard(inputs.weak.device());
  raise_refused();
  const auto type = inputs.weak.options().dtype(inputs.accumulation());
  const auto in_double = inputs.weak.options().dtype(at::kDouble);
  const Tensor loss = inputs.per_entry() ? at::empty_like(inputs.weak, type) : at::empty({}, type);
  const Tensor terms = at::empty({5}, in_double);

  LossForward launch;
  if (validate) launch.refused = &refused_values();
  Operands operands;
  if (inputs.per_entry()) operands.add_output(loss, launch.losses);
  add_inputs(operands, launch.arguments, inputs);
  const std::optional<Entries> entries = operands.lay_out();
  if (!entries.has_value())
    return with_dense(inputs, [&](const LossInputs& dense) { return forward(dense, validate); });
  finish(launch.arguments, *entries, inputs);
  launch.loss = inputs.per_entry() ? nullptr : loss.mutable_data_ptr();
  launch.terms = terms.mutable_data_ptr<double>();
  Tensor partials;
  launch.blocks = loss_blocks(launch.arguments.entries.total);
  if (const std::int64_t size = loss_partials(launch.blocks); size > 0) {
    partials = at::empty({size}, in_double);
    launch.partials = partials.mutable_data_ptr<double>();
  }
  C10_CUDA_CHECK(launch_loss_forward(launch, c10::cuda::getCurrentCUDAStream()));
  return {loss, terms};
}

LossPair backward(const LossInputs& inputs, const LossGradients& gradients) {
  check_loss_gradients(inputs, gradients);
  raise_refused();
  const auto& [grad, terms, need_weak, need_strong] = gradients;
  const c10::cuda::CUDAGuard guard(inputs.weak.device());
  const Tensor grad_weak = need_weak ? at::empty_like(inputs.weak) : Tensor();
  const Tensor grad_strong = need_strong ? at::empty_like(*inputs.strong) : Tensor();
  LossBackward launch;
  Operands operands;
  if (need_weak) operands.add_output(grad_weak, launch.grad_weak);
  if (need_strong) operands.add_output(grad_strong, launch.grad_strong);
  add_inputs(operands, launch.arguments, inputs);
  if (inputs.per_entry()) {
    operands.add_input(grad, launch.grad);
  } else {
    launch.grad.data = static_cast<char*>(const_cast<void*>(grad.const_data_ptr()));
    launch.grad.element = element_of(grad);
  }
  const std::optional<Entries> entries = operands.lay_out();
  if (!entries.has_value())
    return with_dense(inputs, [&](const LossInputs& dense) {
      return backward(dense, {grad.contiguous(), terms, need_weak, need_strong});
    });
  finish(launch.arguments, *entries, inputs);
  launch.terms = terms.const_data_ptr<double>();
  C10_CUDA_CHECK(launch_loss_backward(launch, c10::cuda::getCurrentCUDAStream()));
  return {grad_weak, grad_strong};
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, CUDA, m) {
  m.impl("partial_label_loss_terms", with_terms_schema<forward>);
  m.impl("_partial_label_loss_backward", with_backward_schema<backward>);
}

}  // namespace labelassemble::cuda
