// The options of partial_label_loss as the kernels of every device get them, without torch headers.
#pragma once

namespace labelassemble {

enum class Reduction { kNone, kMean, kSum };

struct LossOptions {
  double threshold;
  double temperature;
  double pseudo_weight;
  double consistency_weight;
  bool detach_target;
  Reduction reduction;
  bool strong_known = false;  // known entries learn from both views, half and half

  // ds/da, 0 where s is a constant in the gradient.
  double target_slope() const { return detach_target ? 0 : 1 - 1 / temperature; }
};

}  // namespace labelassemble
