// class_sums: schemas, checks, Meta and Autograd; the kernels are in cpu/.
#include "ops/class_sums.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/dense_like.h"

namespace labelassemble {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

void check_class_sums(const Tensor& logits, const Tensor& targets) {
  TORCH_CHECK(at::isFloatingType(logits.scalar_type()), "class_sums: logits must be floating, got ",
              logits.scalar_type());
  TORCH_CHECK(logits.dim() >= 2, "class_sums: logits must be [B, C, *spatial], got ",
              logits.sym_sizes());
  TORCH_CHECK(targets.sym_sizes() == logits.sym_sizes(),
              "class_sums: targets must have the shape of logits, got ", targets.sym_sizes(),
              " and ", logits.sym_sizes());
  TORCH_CHECK(at::isFloatingType(targets.scalar_type()),
              "class_sums: targets must be floating, got ", targets.scalar_type());
}

namespace {

Tensor call_backward(const Tensor& grad, const Tensor& logits, const Tensor& targets) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::_class_sums_backward", "")
                             .typed<decltype(call_backward)>();
  return op.call(grad, logits, targets);
}

Tensor meta_forward(const Tensor& logits, const Tensor& targets, double /*threshold*/) {
  check_class_sums(logits, targets);
  return at::empty_symint({6, logits.sym_size(1)}, logits.options().dtype(at::kDouble));
}

Tensor meta_backward(const Tensor& /*grad*/, const Tensor& logits, const Tensor& /*targets*/) {
  return dense_like(logits, logits.scalar_type());
}

class ClassSums : public torch::autograd::Function<ClassSums> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& logits, const Variable& targets,
                          double threshold) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({logits, targets});
    return class_sums(logits, targets, threshold);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    return {call_backward(grads[0], saved[0], saved[1]), Tensor(), Tensor()};
  }
};

Tensor autograd_forward(const Tensor& logits, const Tensor& targets, double threshold) {
  TORCH_CHECK(!targets.requires_grad(), "class_sums: targets must not require a gradient");
  return ClassSums::apply(logits, targets, threshold);
}

// With create_graph the same in torch's differentiable functions: d(a)/dz = a (1 - a).
Tensor autograd_backward(const Tensor& grad, const Tensor& logits, const Tensor& targets) {
  if (!at::GradMode::is_enabled() || !(grad.requires_grad() || logits.requires_grad())) {
    const at::AutoDispatchBelowADInplaceOrView guard;
    return call_backward(grad, logits, targets);
  }
  const at::ScalarType type = logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::DimVector shape(logits.dim(), 1);
  shape[1] = logits.size(1);
  const auto of_class = [&](int64_t row) { return grad.select(0, row).to(type).view(shape); };
  const Tensor known = targets.isnan().logical_not();
  const Tensor zero = at::zeros({}, logits.options().dtype(type));
  const Tensor a = at::sigmoid(at::where(known, logits.to(type), zero));
  const Tensor y = at::where(known, targets.to(type), zero);
  const Tensor slope = (of_class(0) * y + of_class(1)) * a * (1 - a);
  return at::where(known, slope, zero).to(logits.scalar_type());
}

}  // namespace

Tensor class_sums(const Tensor& logits, const Tensor& targets, double threshold) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::class_sums", "")
                             .typed<decltype(class_sums)>();
  return op.call(logits, targets, threshold);
}

TORCH_LIBRARY_FRAGMENT(labelassemble, m) {
  m.def("class_sums(Tensor logits, Tensor targets, float threshold=0.5) -> Tensor");
  m.def("_class_sums_backward(Tensor grad, Tensor logits, Tensor targets) -> Tensor");
}

TORCH_LIBRARY_IMPL(labelassemble, Autograd, m) {
  m.impl("class_sums", autograd_forward);
  m.impl("_class_sums_backward", autograd_backward);
}

TORCH_LIBRARY_IMPL(labelassemble, Meta, m) {
  m.impl("class_sums", meta_forward);
  m.impl("_class_sums_backward", meta_backward);
}

}  // namespace labelassemble
