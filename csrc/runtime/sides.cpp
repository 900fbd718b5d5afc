#include "sides.h"

#include <algorithm>
#include <cmath>

namespace labelassemble {
namespace {

constexpr double kAlike =
    1e6;  // parts of a direction that differ by less than 1 of it are as large

// The rotation nearest to a matrix whose columns have length 1 (Newton's iteration for the polar
// decomposition).
Matrix nearest_rotation(Matrix m) {
  for (int step = 0; step < 100; ++step) {
    const Matrix other = inverse_of(m);
    double change = 0.0;
    Matrix next{};
    for (int r = 0; r < 3; ++r) {
      for (int c = 0; c < 3; ++c) {
        at(next, r, c) = (at(m, r, c) + at(other, c, r)) / 2;
        change = std::max(change, std::abs(at(next, r, c) - at(m, r, c)));
      }
    }
    m = next;
    if (change < 1e-15) break;
  }
  return m;
}

}  // namespace

Matrix linear_part(const Affine& a) {
  return {a[0], a[1], a[2], a[4], a[5], a[6], a[8], a[9], a[10]};
}

Matrix inverse_of(const Matrix& m) {
  Matrix cofactors{};
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      const int r1 = (r + 1) % 3, r2 = (r + 2) % 3, c1 = (c + 1) % 3, c2 = (c + 2) % 3;
      at(cofactors, c, r) = at(m, r1, c1) * at(m, r2, c2) - at(m, r1, c2) * at(m, r2, c1);
    }
  }
  const double determinant = at(m, 0, 0) * at(cofactors, 0, 0) + at(m, 0, 1) * at(cofactors, 1, 0) +
                             at(m, 0, 2) * at(cofactors, 2, 0);
  for (double& value : cofactors) value /= determinant;
  return cofactors;
}

std::array<double, 3> spacing_of(const Affine& a) {
  std::array<double, 3> lengths{};
  for (int c = 0; c < 3; ++c)
    lengths[c] = std::sqrt(a[c] * a[c] + a[4 + c] * a[4 + c] + a[8 + c] * a[8 + c]);
  return lengths;
}

// nibabel.orientations.io_orientation: of the nearest rotation, strongest axes first.
Sides sides_of(const Affine& affine) {
  Matrix m = linear_part(affine);
  const std::array<double, 3> lengths = spacing_of(affine);
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) at(m, r, c) /= lengths[c];
  }
  m = nearest_rotation(m);
  for (double& part : m) part = std::nearbyint(part * kAlike) / kAlike;
  std::array<int, 3> order{0, 1, 2};
  const auto strength = [&](int c) {
    return std::max({std::abs(at(m, 0, c)), std::abs(at(m, 1, c)), std::abs(at(m, 2, c))});
  };
  const std::array<double, 3> strengths{strength(0), strength(1), strength(2)};
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return strengths[a] > strengths[b]; });
  Sides sides;
  std::array<bool, 3> taken{};
  for (const int column : order) {
    int largest = -1;
    for (int row = 0; row < 3; ++row) {
      if (taken[row]) continue;
      if (largest < 0 || std::abs(at(m, row, column)) > std::abs(at(m, largest, column)))
        largest = row;
    }
    taken[largest] = true;
    sides.axis[column] = largest;
    sides.reversed[column] = at(m, largest, column) < 0;
  }
  return sides;
}

}  // namespace labelassemble
