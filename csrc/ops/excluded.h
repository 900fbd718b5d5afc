// Which pseudo-labels a rival class rules out, where classes exclude each other.
#pragma once

#include <ATen/core/Tensor.h>

namespace labelassemble {

// Where an unknown entry of logits [B, C, *spatial] cannot be present, since a class that excludes
// it is; bool, laid out by `dense_like`. A rival is present where its target is known and
// above the threshold, or where it is unknown and its probability is above the threshold and above
// the class's own. exclusive: bool [C, C] or [B, C, C]. Without gradient; on the CPU alone.
at::Tensor excluded(const at::Tensor& logits, const at::Tensor& targets,
                    const at::Tensor& exclusive, double threshold);

void check_excluded(const at::Tensor& logits, const at::Tensor& targets,
                    const at::Tensor& exclusive);

}  // namespace labelassemble
