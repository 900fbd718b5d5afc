// What the soft Dice of a batch and the figures of a training step are made of, class by class.
#pragma once

#include <ATen/core/Tensor.h>

namespace labelassemble {

// Sums over all but the classes of logits [B, C, *spatial], float64 [6, C], with a =
// sigmoid(logits): a y, a and y of known entries, how many are known, how many of the unknown ones
// have a above the threshold, and how many logits are not finite. The first two have a gradient,
// which an unknown entry has no part in. On the CPU alone.
at::Tensor class_sums(const at::Tensor& logits, const at::Tensor& targets, double threshold);

void check_class_sums(const at::Tensor& logits, const at::Tensor& targets);

}  // namespace labelassemble
