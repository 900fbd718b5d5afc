// excluded: schema, checks and Meta; the kernel is in cpu/.
#include "ops/excluded.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include "ops/dense_like.h"

namespace labelassemble {

using at::Tensor;

void check_excluded(const Tensor& logits, const Tensor& targets, const Tensor& exclusive) {
  TORCH_CHECK(at::isFloatingType(logits.scalar_type()), "excluded: logits must be floating, got ",
              logits.scalar_type());
  TORCH_CHECK(logits.dim() >= 2, "excluded: logits must be [B, C, *spatial], got ",
              logits.sym_sizes());
  TORCH_CHECK(targets.sym_sizes() == logits.sym_sizes(),
              "excluded: targets must have the shape of logits, got ", targets.sym_sizes(), " and ",
              logits.sym_sizes());
  const auto classes = logits.sym_size(1);
  const auto axes = exclusive.dim();
  TORCH_CHECK((axes == 2 || axes == 3) && exclusive.sym_size(-1) == classes &&
                  exclusive.sym_size(-2) == classes &&
                  (axes == 2 || exclusive.sym_size(0) == logits.sym_size(0)),
              "excluded: exclusive must have the shape [C, C] or [B, C, C] of logits ",
              logits.sym_sizes(), ", got ", exclusive.sym_sizes());
  TORCH_CHECK(exclusive.scalar_type() == at::kBool, "excluded: exclusive must be bool, got ",
              exclusive.scalar_type());
}

namespace {

Tensor meta(const Tensor& logits, const Tensor& targets, const Tensor& exclusive,
            double /*threshold*/) {
  check_excluded(logits, targets, exclusive);
  return dense_like(logits, at::kBool);
}

// A mask has no derivative.
Tensor autograd(const Tensor& logits, const Tensor& targets, const Tensor& exclusive,
                double threshold) {
  const at::AutoDispatchBelowADInplaceOrView guard;
  return excluded(logits, targets, exclusive, threshold);
}

}  // namespace

Tensor excluded(const Tensor& logits, const Tensor& targets, const Tensor& exclusive,
                double threshold) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::excluded", "")
                             .typed<decltype(excluded)>();
  return op.call(logits, targets, exclusive, threshold);
}

TORCH_LIBRARY_FRAGMENT(labelassemble, m) {
  m.def("excluded(Tensor logits, Tensor targets, Tensor exclusive, float threshold=0.5) -> Tensor");
}

TORCH_LIBRARY_IMPL(labelassemble, Autograd, m) { m.impl("excluded", autograd); }

TORCH_LIBRARY_IMPL(labelassemble, Meta, m) { m.impl("excluded", meta); }

}  // namespace labelassemble
