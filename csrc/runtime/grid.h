// Where the voxels of a volume lie, and its values on other voxels: what
// labelassemble/views/volumes.py does through MONAI's Orientation, Spacing and SpatialResample.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "labelassemble/nifti.h"
#include "sides.h"

namespace labelassemble {

using Shape = std::array<std::int64_t, 3>;

struct Grid {
  Shape shape{};
  Affine affine{};
};

Affine inverse(const Affine& affine);
Affine product(const Affine& left, const Affine& right);

// The voxels on which a network sees a volume: with three axes turned to the right, front and
// head, and with the spacing asked for (one number an axis; empty: as it is).
Grid network_grid(const Grid& stored, std::span<const double> spacing, int axes);

// Values [from.shape] on the voxels of `to`, float32 [to.shape]: between eight of them (trilinear),
// and beyond the outermost voxels the value of the nearest.
std::vector<float> resample(std::span<const float> values, const Grid& from, const Grid& to);

// Whether `resample` would return the values as they are.
bool same_voxels(const Grid& from, const Grid& to);

// The class of each voxel of `to`, as its place from 1 on: the one of the highest probability where
// that is at least `threshold`, else 0. `probabilities` are [classes, from.shape]; at most 255
// classes.
std::vector<std::uint8_t> classes_of_voxels(std::span<const float> probabilities,
                                            std::int64_t classes, const Grid& from, const Grid& to,
                                            double threshold);

}  // namespace labelassemble
