#include "grid.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "labelassemble/decode_guard.h"

namespace labelassemble {
namespace {

constexpr double kSame =
    1e-3;  // mm: MONAI's AFFINE_TOL, and that of labelassemble/views/volumes.py

Grid turned_to_ras(const Grid& stored) {
  const Sides sides = sides_of(stored.affine);
  // From the new voxels to the stored ones.
  Affine back{};
  Grid grid;
  back[15] = 1.0;
  for (int axis = 0; axis < 3; ++axis) {
    const int side = sides.axis[axis];
    grid.shape[side] = stored.shape[axis];
    back[axis * 4 + side] = sides.reversed[axis] ? -1.0 : 1.0;
    back[axis * 4 + 3] = sides.reversed[axis] ? static_cast<double>(stored.shape[axis] - 1) : 0.0;
  }
  grid.affine = product(stored.affine, back);
  return grid;
}

std::array<double, 3> times(const Affine& a, const std::array<double, 3>& v, double one) {
  std::array<double, 3> result{};
  for (int r = 0; r < 3; ++r) {
    result[r] = a[r * 4] * v[0] + a[r * 4 + 1] * v[1] + a[r * 4 + 2] * v[2] + a[r * 4 + 3] * one;
  }
  return result;
}

// MONAI's zoom_affine with diagonal=False: the directions without their shear, times the sizes.
Affine zoomed(const Affine& affine, const std::array<double, 3>& sizes) {
  // Gram-Schmidt is the rotation of the Cholesky factor of A^T A.
  Matrix m = linear_part(affine);
  for (int c = 0; c < 3; ++c) {
    for (int before = 0; before < c; ++before) {
      double dot = 0.0;
      for (int r = 0; r < 3; ++r) dot += at(m, r, c) * at(m, r, before);
      for (int r = 0; r < 3; ++r) at(m, r, c) -= dot * at(m, r, before);
    }
    double length = 0.0;
    for (int r = 0; r < 3; ++r) length += at(m, r, c) * at(m, r, c);
    for (int r = 0; r < 3; ++r) at(m, r, c) /= std::sqrt(length);
  }
  Affine result{};
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) result[r * 4 + c] = at(m, r, c) * sizes[c];
  }
  result[15] = 1.0;
  return result;
}

// MONAI's compute_shape_offset: as many voxels as reach from the first to the last, beginning at
// the corner that lies first along every axis.
Grid with_sizes(const Grid& grid, const std::array<double, 3>& sizes) {
  Grid result{{}, zoomed(grid.affine, sizes)};
  const Affine to_new = product(inverse(result.affine), grid.affine);
  std::array<std::array<double, 3>, 8> corners{}, places{};
  std::array<double, 3> low{}, high{};
  low.fill(std::numeric_limits<double>::infinity());
  high.fill(-std::numeric_limits<double>::infinity());
  for (int n = 0; n < 8; ++n) {
    for (int axis = 0; axis < 3; ++axis)
      corners[n][axis] = (n >> (2 - axis)) & 1 ? static_cast<double>(grid.shape[axis] - 1) : 0.0;
    places[n] = times(to_new, corners[n], 1.0);
    for (int axis = 0; axis < 3; ++axis) {
      low[axis] = std::min(low[axis], places[n][axis]);
      high[axis] = std::max(high[axis], places[n][axis]);
    }
  }
  std::array<double, 3> half_in{}, half_out{};
  for (int axis = 0; axis < 3; ++axis) {
    // More than any volume has, as a header may lie, is refused by whoever allocates.
    constexpr double kMost = 1e15;
    const double size = std::nearbyint(high[axis] - low[axis] + 1.0);
    result.shape[axis] = size < kMost ? static_cast<std::int64_t>(size) : std::int64_t{1} << 50;
    half_in[axis] = static_cast<double>(grid.shape[axis]) / 2.0;
    half_out[axis] = static_cast<double>(result.shape[axis]) / 2.0;
  }
  const std::array<double, 3> middle = times(grid.affine, half_in, 1.0);
  const std::array<double, 3> half = times(result.affine, half_out, 0.0);
  std::array<double, 3> offset{middle[0] - half[0], middle[1] - half[1], middle[2] - half[2]};
  for (int n = 0; n < 8; ++n) {
    const bool first = std::abs(low[0] - places[n][0]) <= 1e-8 &&
                       std::abs(low[1] - places[n][1]) <= 1e-8 &&
                       std::abs(low[2] - places[n][2]) <= 1e-8;
    if (first) {
      offset = times(grid.affine, corners[n], 1.0);
      break;
    }
  }
  for (int row = 0; row < 3; ++row) result.affine[row * 4 + 3] = offset[row];
  return result;
}

// Places within a volume, a row of voxels along the last axis at a time.
class Sampler {
 public:
  Sampler(const Grid& from, const Grid& to)
      : shape_(from.shape), to_source_(product(inverse(from.affine), to.affine)) {}

  // Of voxel (i, j, k) of `to`: the eight values around it and their weights.
  struct Place {
    std::int64_t corner = 0;             // of the first of the eight
    std::array<std::int64_t, 3> step{};  // to the neighbour along each axis; 0 at the border
    std::array<float, 3> share{};        // of that neighbour
  };

  Place place(std::int64_t i, std::int64_t j, std::int64_t k) const {
    const std::array<std::int64_t, 3> strides{shape_[1] * shape_[2], shape_[2], 1};
    const Affine& m = to_source_;
    Place place;
    for (int axis = 0; axis < 3; ++axis) {
      const double* row = m.data() + axis * 4;
      const double last = static_cast<double>(shape_[axis] - 1);
      const double raw = row[0] * static_cast<double>(i) + row[1] * static_cast<double>(j) +
                         row[2] * static_cast<double>(k) + row[3];
      const double x = std::min(std::max(raw, 0.0), last);
      const auto whole = static_cast<std::int64_t>(x);
      place.corner += whole * strides[axis];
      place.step[axis] = whole + 1 < shape_[axis] ? strides[axis] : 0;
      place.share[axis] = static_cast<float>(x - static_cast<double>(whole));
    }
    return place;
  }

 private:
  Shape shape_;
  Affine to_source_;
};

float value_at(const float* values, const Sampler::Place& place) {
  const float* corner = values + place.corner;
  const auto [di, dj, dk] = place.step;
  const auto along = [&](const float* from) {
    return from[0] + place.share[2] * (from[dk] - from[0]);
  };
  const float near0 = along(corner), near1 = along(corner + dj);
  const float far0 = along(corner + di), far1 = along(corner + di + dj);
  const float near = near0 + place.share[1] * (near1 - near0);
  const float far = far0 + place.share[1] * (far1 - far0);
  return near + place.share[0] * (far - near);
}

// Calls `f(index, i, j, k)` for every voxel, on all threads; a few million at a time, since nobody
// may wait for them any more.
template <typename F>
void for_each_voxel(const Shape& shape, F f) {
  constexpr std::int64_t kAtOnce = 1 << 22;
  const std::int64_t voxels = shape[0] * shape[1] * shape[2];
  for (std::int64_t first = 0; first < voxels; first += kAtOnce) {
    check_interrupt();
    const std::int64_t last = std::min(voxels, first + kAtOnce);
    at::parallel_for(first, last, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t index = begin; index < end;) {
        const std::int64_t row = index / shape[2];
        const std::int64_t i = row / shape[1], j = row % shape[1];
        const std::int64_t row_end = std::min(end, (row + 1) * shape[2]);
        for (std::int64_t k = index - row * shape[2]; index < row_end; ++index, ++k)
          f(index, i, j, k);
      }
    });
  }
}

}  // namespace

Affine product(const Affine& left, const Affine& right) {
  Affine result{};
  for (int r = 0; r < 4; ++r) {
    for (int c = 0; c < 4; ++c) {
      for (int n = 0; n < 4; ++n) result[r * 4 + c] += left[r * 4 + n] * right[n * 4 + c];
    }
  }
  return result;
}

Affine inverse(const Affine& affine) {
  const Matrix back = inverse_of(linear_part(affine));
  Affine result{};
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      result[r * 4 + c] = at(back, r, c);
      result[r * 4 + 3] -= at(back, r, c) * affine[c * 4 + 3];
    }
  }
  result[15] = 1.0;
  return result;
}

Grid network_grid(const Grid& stored, std::span<const double> spacing, int axes) {
  const Grid turned = axes == 3 ? turned_to_ras(stored) : stored;
  std::array<double, 3> sizes = spacing_of(turned.affine);
  bool changed = false;
  for (std::size_t axis = 0; axis < spacing.size(); ++axis) {
    if (std::abs(sizes[axis] - spacing[axis]) <= kSame) continue;
    sizes[axis] = spacing[axis];
    changed = true;
  }
  return changed ? with_sizes(turned, sizes) : turned;
}

bool same_voxels(const Grid& from, const Grid& to) {
  if (from.shape != to.shape) return false;
  const Affine change = product(inverse(from.affine), to.affine);
  for (int n = 0; n < 16; ++n) {
    if (std::abs(change[n] - (n % 5 == 0 ? 1.0 : 0.0)) > kSame) return false;
  }
  return true;
}

std::vector<float> resample(std::span<const float> values, const Grid& from, const Grid& to) {
  if (same_voxels(from, to)) return {values.begin(), values.end()};
  std::vector<float> result(static_cast<std::size_t>(to.shape[0] * to.shape[1] * to.shape[2]));
  const Sampler sampler(from, to);
  for_each_voxel(to.shape, [&](std::int64_t index, std::int64_t i, std::int64_t j, std::int64_t k) {
    result[index] = value_at(values.data(), sampler.place(i, j, k));
  });
  return result;
}

std::vector<std::uint8_t> classes_of_voxels(std::span<const float> probabilities,
                                            std::int64_t classes, const Grid& from, const Grid& to,
                                            double threshold) {
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(to.shape[0] * to.shape[1] * to.shape[2]));
  const std::int64_t voxels = from.shape[0] * from.shape[1] * from.shape[2];
  const Sampler sampler(same_voxels(from, to) ? to : from, to);
  for_each_voxel(to.shape, [&](std::int64_t index, std::int64_t i, std::int64_t j, std::int64_t k) {
    const Sampler::Place place = sampler.place(i, j, k);
    float highest = 0.0F;
    for (std::int64_t c = 0; c < classes; ++c) {
      const float value = value_at(probabilities.data() + c * voxels, place);
      if (value >= threshold && value > highest) {
        highest = value;
        mask[index] = static_cast<std::uint8_t>(c + 1);
      }
    }
  });
  return mask;
}

}  // namespace labelassemble
