// relu_mean: schema, Meta and Autograd. d(mean relu(x))/dx = [x > 0] / S, S spatial positions.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/class_query_logits.h"

namespace labelassemble {

void check_feature_map(const at::Tensor& feature_map) {
  const at::ScalarType dtype = feature_map.scalar_type();
  TORCH_CHECK(feature_map.dim() >= 3, "relu_mean: feature_map must be [B, D, *spatial], got ",
              feature_map.sym_sizes());
  TORCH_CHECK(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16,
      "relu_mean: feature_map must be float32, float64, float16 or bfloat16, got ", dtype);
}

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

Tensor call_backward(const Tensor& grad, const Tensor& feature_map) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::_relu_mean_backward", "")
                             .typed<decltype(call_backward)>();
  return op.call(grad, feature_map);
}

Tensor meta_forward(const Tensor& feature_map) {
  check_feature_map(feature_map);
  return at::empty_symint({feature_map.sym_size(0), feature_map.sym_size(1)},
                          feature_map.options());
}

Tensor meta_backward(const Tensor& /*grad*/, const Tensor& feature_map) {
  return at::empty_like(feature_map);
}

class ReluMean : public torch::autograd::Function<ReluMean> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& feature_map) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({feature_map});
    return relu_mean(feature_map);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {call_backward(grads[0], ctx->get_saved_variables()[0])};
  }
};

Tensor autograd_forward(const Tensor& feature_map) { return ReluMean::apply(feature_map); }

// With create_graph the same in torch's differentiable functions: linear in grad, constant in
// feature_map.
Tensor autograd_backward(const Tensor& grad, const Tensor& feature_map) {
  if (!at::GradMode::is_enabled() || !grad.requires_grad()) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return call_backward(grad, feature_map);
  }
  c10::SymInt positions = 1;
  Tensor spread = grad;
  for (int64_t axis = 2; axis < feature_map.dim(); ++axis) {
    positions *= feature_map.sym_size(axis);
    spread = spread.unsqueeze(-1);
  }
  return at::where(feature_map.detach() <= 0, at::zeros({}, grad.options()), spread) / positions;
}

}  // namespace

Tensor relu_mean(const Tensor& feature_map) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::relu_mean", "")
                             .typed<decltype(relu_mean)>();
  return op.call(feature_map);
}

TORCH_LIBRARY_FRAGMENT(labelassemble, m) {
  m.def("relu_mean(Tensor feature_map) -> Tensor");
  m.def("_relu_mean_backward(Tensor grad, Tensor feature_map) -> Tensor");
}

TORCH_LIBRARY_IMPL(labelassemble, Autograd, m) {
  m.impl("relu_mean", autograd_forward);
  m.impl("_relu_mean_backward", autograd_backward);
}

TORCH_LIBRARY_IMPL(labelassemble, Meta, m) {
  m.impl("relu_mean", meta_forward);
  m.impl("_relu_mean_backward", meta_backward);
}

}  // namespace labelassemble
