// The head of Label-Assemble: every class is a learnable query that one shared layer turns into a
// classifier.
#pragma once

#include <ATen/core/Tensor.h>

namespace labelassemble {

// features [B, D] W^T with W = queries weight^T + bias [C, D]; queries [C, K], weight [D, K], bias
// [D]. Made of torch's own matrix products, so every derivative, dtype and device of theirs holds.
at::Tensor class_query_logits(const at::Tensor& features, const at::Tensor& queries,
                              const at::Tensor& weight, const at::Tensor& bias);

// class_query_logits of the mean over the spatial axes of relu(feature_map), [B, D, *spatial], in
// one pass: neither relu(feature_map) nor a copy of feature_map is written.
at::Tensor pooled_class_query_logits(const at::Tensor& feature_map, const at::Tensor& queries,
                                     const at::Tensor& weight, const at::Tensor& bias);

// Mean over the spatial axes of relu(feature_map): [B, D], in feature_map's dtype, summed in float
// or double.
at::Tensor relu_mean(const at::Tensor& feature_map);

void check_feature_map(const at::Tensor& feature_map);

}  // namespace labelassemble
