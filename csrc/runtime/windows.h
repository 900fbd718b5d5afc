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

// How many they are, told without making them: a header can tell of 2^30 voxels along an axis.
std::int64_t window_count(std::int64_t size, std::int64_t patch, double overlap);

// Weights of a window's voxels, row by row: a Gaussian of a standard deviation of an eighth of each
// edge, at least 0.001.
std::vector<float> window_weights(const std::array<std::int64_t, 3>& patch);

// How many go through a network at once, and what each call of it has at least: libtorch runs small
// convolutions of a single window without oneDNN, and large ones quicker alone. Measured on two
// cores, ms a window of 1, 2, 3, 4 at once (DynUNet): 32^3 85, 15, 14, 14; 48^3 106, 49, 49, 70;
// 56^3 98, 111, 133, 133; 64^3 153, 196, 197, 205; 96^2 9, 6, 5, 5; 256^2 32, 26, 29, 33.
struct WindowsAtOnce {
  std::int64_t most;
  std::int64_t least;  // beyond the windows that there are, others of zeros
};
WindowsAtOnce windows_at_once(const std::vector<std::int64_t>& patch, bool on_cpu);

}  // namespace labelassemble
