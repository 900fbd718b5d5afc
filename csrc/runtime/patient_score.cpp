#include "patient_score.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

namespace labelassemble {
namespace {

// A slice's voxels lie far apart: so many slices at once use whole cache lines.
constexpr std::int64_t kSlices = 16;

// Of the first `count` of the values in falling order, which are put first.
double mean_of_highest(std::vector<float>& values, std::int64_t count) {
  if (count < static_cast<std::int64_t>(values.size()))
    std::nth_element(values.begin(), values.begin() + count, values.end(), std::greater<>());
  return std::accumulate(values.begin(), values.begin() + count, 0.0) / static_cast<double>(count);
}

}  // namespace

std::size_t patient_score_bytes(const std::array<std::int64_t, 3>& shape) {
  const std::int64_t blocks = (shape[2] + kSlices - 1) / kSlices;
  const std::int64_t together = std::min<std::int64_t>(blocks, at::get_num_threads());
  return static_cast<std::size_t>(together * std::min(kSlices, shape[2]) * shape[0] * shape[1]) *
         sizeof(float);
}

double patient_score(std::span<const float> probabilities, const std::array<std::int64_t, 3>& shape,
                     double top, bool maximum) {
  const std::int64_t voxels = shape[0] * shape[1];
  const auto highest = static_cast<std::int64_t>(
      std::nearbyint(top * static_cast<double>(voxels)));  // to even, as Python's round
  const std::int64_t count = std::max<std::int64_t>(1, highest);
  std::vector<double> scores(static_cast<std::size_t>(shape[2]));
  const std::int64_t blocks = (shape[2] + kSlices - 1) / kSlices;
  at::parallel_for(0, blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t most = std::min(kSlices, shape[2]);  // of a slice there is no second one
    std::vector<std::vector<float>> slices(most, std::vector<float>(voxels));
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t first = block * kSlices;
      const std::int64_t some = std::min(kSlices, shape[2] - first);
      for (std::int64_t voxel = 0; voxel < voxels; ++voxel) {
        const float* column = probabilities.data() + voxel * shape[2] + first;
        for (std::int64_t k = 0; k < some; ++k) slices[k][voxel] = column[k];
      }
      for (std::int64_t k = 0; k < some; ++k) scores[first + k] = mean_of_highest(slices[k], count);
    }
  });
  if (maximum) return *std::max_element(scores.begin(), scores.end());
  return std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
}

}  // namespace labelassemble
