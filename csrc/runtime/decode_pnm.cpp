// Binary PGM (P5) and PPM (P6): the formats that need no library. Specification:
// netpbm.sourceforge.net/doc/pgm.html
#include <algorithm>
#include <cmath>

#include "decoders.h"
#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"

namespace labelassemble {
namespace {

bool is_space(std::uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Reads the three numbers of the header; `at` is the next byte.
class Header {
 public:
  Header(Bytes bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  std::int64_t number(const char* what) {
    skip_space_and_comments();
    std::int64_t value = 0;
    const std::size_t start = at_;
    for (; at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9'; ++at_) {
      value = value * 10 + (bytes_[at_] - '0');
      if (value > kMaxImagePixels) fail(std::string("its ") + what + " is beyond any image");
    }
    if (at_ == start) fail(std::string("its header must give a ") + what + " in digits");
    return value;
  }

  // The pixels begin after exactly one white space.
  std::size_t end() {
    if (at_ >= bytes_.size() || !is_space(bytes_[at_])) fail("its header must end in white space");
    return at_ + 1;
  }

 private:
  void skip_space_and_comments() {
    while (at_ < bytes_.size()) {
      if (bytes_[at_] == '#') {
        while (at_ < bytes_.size() && bytes_[at_] != '\n' && bytes_[at_] != '\r') ++at_;
      } else if (is_space(bytes_[at_])) {
        ++at_;
      } else {
        return;
      }
    }
  }

  [[noreturn]] void fail(const std::string& rule) const {
    throw Error(name_ + ": damaged PGM or PPM image: " + rule);
  }

  Bytes bytes_;
  const std::string& name_;
  std::size_t at_ = 2;
};

}  // namespace

Decoded decode_pnm(Bytes bytes, const std::string& name) {
  const std::int64_t channels = bytes[1] == '6' ? 3 : 1;
  Header header(bytes, name);
  const std::int64_t width = header.number("width");
  const std::int64_t height = header.number("height");
  const std::int64_t maximum = header.number("largest value");
  const std::size_t start = header.end();
  check_dimensions(width, height, name);
  if (maximum < 1 || maximum > 65535) {
    throw Error(name + ": a PGM or PPM image must have 1 to 65535 as its largest value, got " +
                std::to_string(maximum));
  }
  const std::int64_t size = maximum > 255 ? 2 : 1;  // bytes a value
  const auto values = static_cast<std::size_t>(width * height * channels);
  const std::size_t needed = values * size;
  if (bytes.size() - start < needed) {
    throw Error(name + ": damaged PGM or PPM image: " + std::to_string(width) + " x " +
                std::to_string(height) + " needs " + std::to_string(needed) +
                " bytes of pixels, got " + std::to_string(bytes.size() - start));
  }
  // Scaled, narrow and in planes.
  admit_image((maximum == 255 ? 1 : 4) * values, needed);
  const std::uint8_t* pixels = bytes.data() + start;
  Decoded decoded;
  if (maximum == 255) {
    decoded.image = from_interleaved(pixels, channels, height, width);
    return decoded;
  }
  // The largest value becomes the largest of 8 bits, or of 16 for grey that has more than 8.
  const bool wide = size == 2 && channels == 1;
  const double range = wide ? 65535 : 255;
  std::vector<std::uint16_t> table(maximum + 1);
  for (std::int64_t v = 0; v <= maximum; ++v) {
    table[v] = static_cast<std::uint16_t>(std::nearbyint(static_cast<double>(v) / maximum * range));
  }
  std::vector<std::uint16_t> scaled(values);
  for (std::size_t i = 0; i < values; ++i) {
    const std::int64_t value = size == 2 ? pixels[2 * i] * 256 + pixels[2 * i + 1] : pixels[i];
    scaled[i] = table[std::min(value, maximum)];
  }
  if (wide) {
    decoded.image = {1, height, width, {}};
    decoded.wide = std::move(scaled);
  } else {
    const std::vector<std::uint8_t> narrow(scaled.begin(), scaled.end());
    decoded.image = from_interleaved(narrow.data(), channels, height, width);
  }
  return decoded;
}

}  // namespace labelassemble
