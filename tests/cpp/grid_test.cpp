// Resampling can be given up soon after it has begun, however the voxels lie.
#include "grid.h"

#include <gtest/gtest.h>

#include "labelassemble/decode_guard.h"

namespace {

using labelassemble::Grid;
using labelassemble::resample;

class Counter final : public labelassemble::DecodeGuard {
 public:
  void admit(std::size_t, std::size_t) override {}
  void check() override { ++checks; }
  int checks = 0;
};

Grid grid_of(const std::array<std::int64_t, 3>& shape, int axis, double size) {
  Grid grid{shape, {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}};
  grid.affine[axis * 5] = size;
  return grid;
}

TEST(Resample, AsksAsOftenAlongEveryAxis) {
  constexpr std::int64_t kVoxels = 3 << 22;
  const std::vector<float> ends{0.0F, 1.0F};
  for (int axis = 0; axis < 3; ++axis) {
    std::array<std::int64_t, 3> two{1, 1, 1}, many{1, 1, 1};
    two[axis] = 2;
    many[axis] = kVoxels;
    Counter counter;
    const std::vector<float> values =
        resample(ends, grid_of(two, axis, kVoxels - 1), grid_of(many, axis, 1.0));
    EXPECT_GE(counter.checks, 3) << axis;
    for (const std::int64_t place : {std::int64_t{0}, kVoxels / 3, kVoxels / 2, kVoxels - 1}) {
      EXPECT_NEAR(values[place], static_cast<double>(place) / (kVoxels - 1), 1e-6) << axis;
    }
  }
}

}  // namespace
