// How the axes of a volume lie in the body.
#pragma once

#include <array>

#include "labelassemble/nifti.h"

namespace labelassemble {

using Matrix = std::array<double, 9>;  // row by row

inline double& at(Matrix& m, int row, int column) { return m[row * 3 + column]; }
inline double at(const Matrix& m, int row, int column) { return m[row * 3 + column]; }

Matrix linear_part(const Affine& affine);
Matrix inverse_of(const Matrix& m);

// The edges of a voxel in millimetres.
std::array<double, 3> spacing_of(const Affine& affine);

// The side of the body that each axis runs along (0: left to right, 1: back to front, 2: foot to
// head), no two along the same one, and whether it runs towards the first of these.
struct Sides {
  std::array<int, 3> axis{};
  std::array<bool, 3> reversed{};
};

// As Grid.directions of labelassemble/data/grid.py.
Sides sides_of(const Affine& affine);

}  // namespace labelassemble
