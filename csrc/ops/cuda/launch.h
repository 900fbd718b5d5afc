// What the CUDA sources offer to the glue, without torch headers (they take nvcc 20 times as long).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops/element.h"
#include "ops/loss_options.h"

namespace labelassemble::cuda {

inline constexpr int kAxes = 8;

// One tensor of the entries' shape: strides in bytes, 0 where it is broadcast. data null: absent.
struct Operand {
  char* data = nullptr;
  Element element = Element::kFloat;
  std::int64_t strides[kAxes] = {};
};

// The entries: `axes` axes, the first one varying fastest. flat: every operand lies densely in that
// order, aligned to 16 bytes and in one of the two dtypes that are read by vectors.
struct Entries {
  std::int64_t total = 0;
  int axes = 0;
  std::int64_t sizes[kAxes] = {};
  bool flat = false;
};

// The options as entries need them, converted on the host: a kernel would convert them again for
// each entry, since that takes it fewer registers.
template <typename T>
struct EntryOptions {
  bool strong = false;      // the consistency term is there
  bool unknown = false;     // any term of unknown entries is
  bool both_views = false;  // known entries: the mean of both views
  T threshold = 0;
  T inverse_temperature = 0;
  T pseudo_weight = 0;
  T consistency_weight = 0;
  T target_slope = 0;  // ds/da; 0 where s is a constant
};

struct LossArguments {
  Entries entries;
  bool in_double = false;  // accumulate, and compute, in double
  Operand weak;
  Operand strong;  // no data: it has no part in any term
  Operand targets;
  Operand pos_weight;
  Operand class_weight;
  Operand absent;  // not 0: an unknown entry whose pseudo-label is 0
  LossOptions options;
  EntryOptions<float> options_in_float;
  EntryOptions<double> options_in_double;
};

// Values that are not allowed, in memory of the host that kernels write to; 0: none, which each
// value may be.
template <typename T>
struct RefusedValues {
  T target = 0;
  T pos_weight = 0;
  T class_weight = 0;
};
struct Refused {
  RefusedValues<float> in_float;
  RefusedValues<double> in_double;
};

struct LossForward {
  LossArguments arguments;
  Refused* refused = nullptr;  // null: values are not checked
  Operand losses;              // reduction none
  void* loss = nullptr;        // else: one float or double
  double* terms = nullptr;     // [5], NaN where a value is not allowed
  int blocks = 1;              // loss_blocks()
  double* partials = nullptr;  // [loss_partials(blocks)]
};

struct LossBackward {
  LossArguments arguments;
  const double* terms = nullptr;
  Operand
      grad;  // float, or double for double; reduction none: of the entries' shape, else one number
  Operand grad_weak;
  Operand grad_strong;
};

// How many blocks of the forward the current device takes, and how many doubles they leave to the
// last of them; 0 where there is one block.
int loss_blocks(std::int64_t total);
std::int64_t loss_partials(int blocks);
cudaError_t launch_loss_forward(const LossForward& forward, cudaStream_t stream);
cudaError_t launch_loss_backward(const LossBackward& backward, cudaStream_t stream);

// feature_map [B, D, *spatial], axes of size > 1 collapsed where they can be; means [B, D], dense.
struct ReluMean {
  Operand feature_map;  // strides: of the spatial axes, the fastest first
  std::int64_t batch_stride = 0;
  std::int64_t channel_stride = 0;
  std::int64_t batch = 0;
  std::int64_t channels = 0;
  int axes = 0;
  std::int64_t sizes[kAxes] = {};
  std::int64_t positions = 0;
  char* means = nullptr;
};

struct ReluSpread {
  Entries entries;
  Operand feature_map;
  Operand grad;  // broadcast over the spatial axes
  Operand result;
  double scale = 0;
};

cudaError_t launch_relu_mean(const ReluMean& mean, cudaStream_t stream);
cudaError_t launch_relu_spread(const ReluSpread& spread, cudaStream_t stream);

}  // namespace labelassemble::cuda
