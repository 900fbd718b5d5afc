#include "resize.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace labelassemble::serve {
namespace {

constexpr std::int64_t kBand = 16;  // rows between two calls of the interrupt

// The inputs that one output is a weighted mean of.
struct Taps {
  std::int64_t first = 0;
  std::vector<float> weights;
};

// PyTorch's weights (aten/src/ATen/native/cpu/UpSampleKernel.cpp, antialias=True,
// align_corners=False): a triangle as wide as two inputs, or as two outputs where those are wider.
std::vector<Taps> taps_of(std::int64_t input, std::int64_t output) {
  const float scale = static_cast<float>(input) / static_cast<float>(output);
  const float support = std::max(scale, 1.0F);
  const float inverse = scale >= 1.0F ? 1.0F / scale : 1.0F;
  std::vector<Taps> all(static_cast<std::size_t>(output));
  for (std::int64_t i = 0; i < output; ++i) {
    Taps& taps = all[static_cast<std::size_t>(i)];
    const float center = scale * (static_cast<float>(i) + 0.5F);
    taps.first = std::max<std::int64_t>(static_cast<std::int64_t>(center - support + 0.5F), 0);
    const std::int64_t end = std::min(static_cast<std::int64_t>(center + support + 0.5F), input);
    float sum = 0;
    taps.weights.reserve(static_cast<std::size_t>(end - taps.first));
    for (std::int64_t j = taps.first; j < end; ++j) {
      const float x = std::abs((static_cast<float>(j) - center + 0.5F) * inverse);
      taps.weights.push_back(x < 1.0F ? 1.0F - x : 0.0F);
      sum += taps.weights.back();
    }
    for (float& weight : taps.weights) weight /= sum;
  }
  return all;
}

float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1FU;
  const std::uint32_t fraction = bits & 0x3FFU;
  if (exponent == 0) {  // zero and subnormal numbers
    const float value = std::ldexp(static_cast<float>(fraction), -24);
    return sign != 0 ? -value : value;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

template <typename T>
void row_of(const std::uint8_t* bytes, std::int64_t width, float* row) {
  for (std::int64_t x = 0; x < width; ++x) {
    T value;  // the bytes of a request may begin anywhere
    std::memcpy(&value, bytes + x * static_cast<std::int64_t>(sizeof value), sizeof value);
    row[x] = static_cast<float>(value);
  }
}

// Reads rows of one image.
class Rows {
 public:
  Rows(const Pixels& images, std::int64_t index, std::int64_t channels)
      : images_(images),
        channels_(channels),
        element_(static_cast<std::int64_t>(element_size(images.type))),
        plane_(images.height * images.width * element_),
        start_(images.data.data() + index * images.channels * plane_) {}

  // Values 0..1 of row `y` of output channel `channel`; `spare` is another row to work with.
  void read(std::int64_t channel, std::int64_t y, float* row, float* spare) const {
    if (channels_ == 1 && images_.channels == 3) {
      // ITU-R BT.601 luma.
      constexpr float kWeights[] = {0.299F, 0.587F, 0.114F};
      std::fill_n(row, images_.width, 0.0F);
      for (std::int64_t c = 0; c < 3; ++c) {
        values(c, y, spare);
        for (std::int64_t x = 0; x < images_.width; ++x) row[x] += kWeights[c] * spare[x];
      }
    } else {
      values(channel, y, row);
    }
    if (images_.type == DataType::kUint8) {
      for (std::int64_t x = 0; x < images_.width; ++x) row[x] /= 255.0F;
    }
  }

 private:
  void values(std::int64_t channel, std::int64_t y, float* row) const {
    const std::uint8_t* bytes = start_ + channel * plane_ + y * images_.width * element_;
    switch (images_.type) {
      case DataType::kFp32:
        return row_of<float>(bytes, images_.width, row);
      case DataType::kFp64:
        return row_of<double>(bytes, images_.width, row);
      case DataType::kFp16:
        for (std::int64_t x = 0; x < images_.width; ++x) {
          std::uint16_t bits;
          std::memcpy(&bits, bytes + 2 * x, sizeof bits);
          row[x] = half_to_float(bits);
        }
        return;
      default:
        return row_of<std::uint8_t>(bytes, images_.width, row);
    }
  }

  const Pixels& images_;
  const std::int64_t channels_;
  const std::int64_t element_;
  const std::int64_t plane_;
  const std::uint8_t* start_;
};

void copy_plane(const Rows& rows, std::int64_t channel, std::int64_t size, float* out,
                std::vector<float>& spare, const Interrupt& interrupt) {
  for (std::int64_t y = 0; y < size; ++y) {
    if (y % kBand == 0) interrupt();
    rows.read(channel, y, out + y * size, spare.data());
  }
}

// Each input row is resized to the output's width and then added to the output rows that it is a
// part of, which are neighbours.
void resize_plane(const Rows& rows, std::int64_t channel, std::int64_t height, std::int64_t size,
                  const std::vector<Taps>& across, const std::vector<Taps>& down, float* out,
                  std::vector<float>& row, std::vector<float>& spare, const Interrupt& interrupt) {
  std::fill_n(out, size * size, 0.0F);
  std::vector<float> narrow(static_cast<std::size_t>(size));
  std::int64_t first = 0;  // the first output row that is not complete
  for (std::int64_t y = 0; y < height; ++y) {
    if (y % kBand == 0) interrupt();
    rows.read(channel, y, row.data(), spare.data());
    for (std::int64_t x = 0; x < size; ++x) {
      const Taps& taps = across[static_cast<std::size_t>(x)];
      const float* from = row.data() + taps.first;
      float sum = 0;
      for (std::size_t j = 0; j < taps.weights.size(); ++j) sum += from[j] * taps.weights[j];
      narrow[static_cast<std::size_t>(x)] = sum;
    }
    for (std::int64_t i = first; i < size; ++i) {
      const Taps& taps = down[static_cast<std::size_t>(i)];
      const auto count = static_cast<std::int64_t>(taps.weights.size());
      if (y < taps.first) break;
      if (y >= taps.first + count) {
        first = i + 1;
        continue;
      }
      const float weight = taps.weights[static_cast<std::size_t>(y - taps.first)];
      float* target = out + i * size;
      for (std::int64_t x = 0; x < size; ++x)
        target[x] += weight * narrow[static_cast<std::size_t>(x)];
    }
  }
  // Weights that sum to 1 but for rounding may pass it by a bit.
  for (std::int64_t i = 0; i < size * size; ++i) out[i] = std::clamp(out[i], 0.0F, 1.0F);
}

}  // namespace

std::size_t prepare_bytes(std::int64_t height, std::int64_t width, std::int64_t size) {
  // Two rows; the taps, which overlap so that an input belongs to two outputs or the reverse; one
  // narrow row.
  const std::int64_t taps = 2 * (height + width) + 8 * size;
  return static_cast<std::size_t>(2 * width + taps + size) * sizeof(float) +
         static_cast<std::size_t>(2 * size) * sizeof(Taps);
}

void prepare(const Pixels& images, std::int64_t channels, std::int64_t size, float* out,
             const Interrupt& interrupt) {
  std::vector<float> row(static_cast<std::size_t>(images.width));
  std::vector<float> spare(row.size());
  const bool fits = images.height == size && images.width == size;
  const std::vector<Taps> across = fits ? std::vector<Taps>{} : taps_of(images.width, size);
  const std::vector<Taps> down = fits ? std::vector<Taps>{} : taps_of(images.height, size);
  for (std::int64_t n = 0; n < images.count; ++n) {
    const Rows rows(images, n, channels);
    for (std::int64_t channel = 0; channel < channels; ++channel, out += size * size) {
      if (channel > 0 && images.channels == 1) {
        std::copy_n(out - size * size, size * size, out);
      } else if (fits) {
        copy_plane(rows, channel, size, out, spare, interrupt);
      } else {
        resize_plane(rows, channel, images.height, size, across, down, out, row, spare, interrupt);
      }
    }
  }
}

}  // namespace labelassemble::serve
