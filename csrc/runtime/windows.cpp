#include "windows.h"

#include <algorithm>
#include <cmath>

namespace labelassemble {
namespace {

std::int64_t interval_of(std::int64_t patch, double overlap) {
  return std::max<std::int64_t>(
      1, static_cast<std::int64_t>(static_cast<double>(patch) * (1.0 - overlap)));
}

}  // namespace

std::int64_t window_count(std::int64_t size, std::int64_t patch, double overlap) {
  if (size <= patch) return 1;
  const std::int64_t interval = interval_of(patch, overlap);
  return (size - patch + interval - 1) / interval + 1;
}

std::vector<std::int64_t> window_starts(std::int64_t size, std::int64_t patch, double overlap) {
  if (size <= patch) return {-((patch - size) / 2)};
  const std::int64_t interval = interval_of(patch, overlap);
  std::vector<std::int64_t> starts;
  starts.reserve(static_cast<std::size_t>(window_count(size, patch, overlap)));
  for (std::int64_t start = 0;; start += interval) {
    starts.push_back(std::min(start, size - patch));  // the last one is shifted inwards
    if (start + patch >= size) return starts;
  }
}

std::vector<float> window_weights(const std::array<std::int64_t, 3>& patch) {
  std::array<std::vector<float>, 3> along;
  for (int axis = 0; axis < 3; ++axis) {
    const double sigma = 0.125 * static_cast<double>(patch[axis]);
    const auto scale = static_cast<float>(-2.0 * sigma * sigma);
    for (std::int64_t i = 0; i < patch[axis]; ++i) {
      const float x = static_cast<float>(i) - static_cast<float>(patch[axis] - 1) / 2.0F;
      along[axis].push_back(std::exp(x * x / scale));
    }
  }
  std::vector<float> weights;
  weights.reserve(static_cast<std::size_t>(patch[0] * patch[1] * patch[2]));
  for (const float a : along[0]) {
    for (const float b : along[1]) {
      for (const float c : along[2]) weights.push_back(a * b * c);
    }
  }
  const float least = std::max(*std::min_element(weights.begin(), weights.end()), 1e-3F);
  for (float& weight : weights) weight = std::max(weight, least);
  return weights;
}

WindowsAtOnce windows_at_once(const std::vector<std::int64_t>& patch, bool on_cpu) {
  std::int64_t voxels = 1;
  for (const std::int64_t size : patch) voxels *= size;
  if (!on_cpu) return {4, 1};
  if (voxels <= 1 << 15) return {4, patch.size() == 3 ? 2 : 1};
  return {voxels <= 1 << 17 ? 3 : 1, 1};
}

}  // namespace labelassemble
