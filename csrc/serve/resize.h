// Makes the network's input of an image of any size, row by row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "data_type.h"

namespace labelassemble::serve {

// Images of one size and type, [count, channels, height, width].
struct Pixels {
  DataType type = DataType::kUint8;  // or FP16, FP32, FP64
  std::int64_t count = 1;
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::span<const std::uint8_t> data;  // not aligned
};

// Called before every band of rows; what it throws ends the work.
using Interrupt = std::function<void()>;

// Values 0..1 [count, channels, size, size] of the images: colour becomes luma where `channels` is
// 1, grey is repeated where it is 3, and the size is stretched with PyTorch's antialiased bilinear
// filter. These are the values of to_unit_range and resize in labelassemble/views/preprocess.py but
// for the order of a few sums. Beside the answer it takes a few rows of memory. `out` has room for
// count * channels * size * size values.
void prepare(const Pixels& images, std::int64_t channels, std::int64_t size, float* out,
             const Interrupt& interrupt);

// Bytes that this takes beside the images and the answer.
std::size_t prepare_bytes(std::int64_t height, std::int64_t width, std::int64_t size);

}  // namespace labelassemble::serve
