// The windows in which a patch network answers a whole volume: where they lie and how much each of
// their voxels counts, as MONAI's sliding_window_inference(mode="gaussian") has it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace labelassemble {

// First voxels of the windows along one axis, in MONAI's order. A window may begin before 0 and end
// after `size`, where the axis is shorter than the patch. `overlap` is a share of the patch.
std::vector<std::int64_t> window_starts(std::int64_t size, std::int64_t patch, double overlap);

// Weights of a window's voxels, row by row: a Gaussian of a standard deviation of an eighth of each
// edge, at least 0.001.
std::vector<float> window_weights(const std::array<std::int64_t, 3>& patch);

}  // namespace labelassemble
