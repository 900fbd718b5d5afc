// class_query_logits and pooled_class_query_logits: schemas and checks. Compositions of torch's
// products and of relu_mean, so autograd, autocast and meta come with their parts.
#include "ops/class_query_logits.h"

#include <ATen/ATen.h>
#include <torch/library.h>

namespace labelassemble {
namespace {

using at::Tensor;

void check_head(const char* op, const Tensor& queries, const Tensor& weight, const Tensor& bias) {
  TORCH_CHECK(queries.dim() == 2, op, ": queries must be [C, K], got ", queries.sym_sizes());
  TORCH_CHECK(weight.dim() == 2 && weight.sym_size(1) == queries.sym_size(1), op,
              ": weight must be [D, K] with the K of queries, got ", weight.sym_sizes(), " and ",
              queries.sym_sizes());
  TORCH_CHECK(bias.dim() == 1 && bias.sym_size(0) == weight.sym_size(0), op,
              ": bias must be [D] with the D of weight, got ", bias.sym_sizes(), " and ",
              weight.sym_sizes());
}

Tensor logits_of(const Tensor& features, const Tensor& queries, const Tensor& weight,
                 const Tensor& bias) {
  return at::linear(features, at::addmm(bias, queries, weight.t()));
}

Tensor class_query_composite(const Tensor& features, const Tensor& queries, const Tensor& weight,
                             const Tensor& bias) {
  check_head("class_query_logits", queries, weight, bias);
  TORCH_CHECK(features.dim() >= 1 && features.sym_size(-1) == weight.sym_size(0),
              "class_query_logits: features must be [*, D] with the D of weight, got ",
              features.sym_sizes(), " and ", weight.sym_sizes());
  return logits_of(features, queries, weight, bias);
}

Tensor pooled_composite(const Tensor& feature_map, const Tensor& queries, const Tensor& weight,
                        const Tensor& bias) {
  check_head("pooled_class_query_logits", queries, weight, bias);
  TORCH_CHECK(
      feature_map.dim() >= 3 && feature_map.sym_size(1) == weight.sym_size(0),
      "pooled_class_query_logits: feature_map must be [B, D, *spatial] with the D of weight, got ",
      feature_map.sym_sizes(), " and ", weight.sym_sizes());
  return logits_of(relu_mean(feature_map), queries, weight, bias);
}

}  // namespace

Tensor class_query_logits(const Tensor& features, const Tensor& queries, const Tensor& weight,
                          const Tensor& bias) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::class_query_logits", "")
                             .typed<decltype(class_query_logits)>();
  return op.call(features, queries, weight, bias);
}

Tensor pooled_class_query_logits(const Tensor& feature_map, const Tensor& queries,
                                 const Tensor& weight, const Tensor& bias) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("labelassemble::pooled_class_query_logits", "")
                             .typed<decltype(pooled_class_query_logits)>();
  return op.call(feature_map, queries, weight, bias);
}

TORCH_LIBRARY_FRAGMENT(labelassemble, m) {
  m.def("class_query_logits(Tensor features, Tensor queries, Tensor weight, Tensor bias) -> Tensor",
        class_query_composite);
  m.def(
      "pooled_class_query_logits(Tensor feature_map, Tensor queries, Tensor weight, Tensor bias) "
      "-> Tensor",
      pooled_composite);
}

}  // namespace labelassemble
