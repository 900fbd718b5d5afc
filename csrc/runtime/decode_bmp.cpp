// BMP without compression: 1, 4 and 8 bits with a palette, 16, 24 and 32 bits of colour.
// Specification: learn.microsoft.com/windows/win32/gdi/bitmap-storage
#include <algorithm>
#include <array>
#include <bit>

#include "decoders.h"
#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"

namespace labelassemble {
namespace {

constexpr std::size_t kFileHeader = 14;
constexpr std::uint32_t kRgb = 0;
constexpr std::uint32_t kBitfields = 3;

struct Header {
  std::uint32_t size = 0;  // of the header behind the file's
  std::int64_t width = 0;
  std::int64_t height = 0;
  bool top_down = false;
  std::uint32_t bits = 0;  // a pixel
  std::uint32_t compression = kRgb;
  std::uint32_t colours = 0;             // of the palette
  std::array<std::uint32_t, 4> masks{};  // red, green, blue, alpha
};

// One of a pixel's values by its mask, as 8 bits.
struct Channel {
  explicit Channel(std::uint32_t bits)
      : mask(bits), shift(bits != 0 ? std::countr_zero(bits) : 0), largest(bits >> shift) {}

  std::uint8_t of(std::uint32_t pixel) const {
    if (largest == 0) return 0;
    const std::uint64_t value = (pixel & mask) >> shift;
    return static_cast<std::uint8_t>(value * 255 / largest);
  }

  std::uint32_t mask;
  int shift;
  std::uint32_t largest;
};

class Reader {
 public:
  Reader(Bytes bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  Decoded decode() {
    read_header();
    check_dimensions(header_.width, header_.height, name_);
    const std::size_t stride = (header_.width * header_.bits + 31) / 32 * 4;
    const std::size_t start = number(10, 4);
    const std::size_t needed = stride * header_.height;
    if (start > bytes_.size() || needed > bytes_.size() - start) {
      damaged(std::to_string(header_.width) + " x " + std::to_string(header_.height) + " needs " +
              std::to_string(needed) + " bytes of pixels, got " +
              std::to_string(bytes_.size() - std::min(start, bytes_.size())));
    }
    // Interleaved, and in planes.
    admit_image(static_cast<std::size_t>(header_.width * header_.height) * 6, needed);
    pixels_ = bytes_.subspan(start, needed);
    stride_ = stride;
    Decoded decoded;
    decoded.image = header_.bits <= 8 ? with_palette() : with_colours();
    return decoded;
  }

 private:
  void read_header() {
    header_.size = number(kFileHeader, 4);
    if (header_.size == 12) {  // OS/2's
      header_.width = number(18, 2);
      header_.height = number(20, 2);
      header_.bits = number(24, 2);
    } else if (header_.size >= 40 && header_.size <= 124) {
      header_.width = static_cast<std::int32_t>(number(18, 4));
      header_.height = static_cast<std::int32_t>(number(22, 4));
      header_.top_down = header_.height < 0;
      if (header_.top_down) header_.height = -header_.height;
      header_.bits = number(28, 2);
      header_.compression = number(30, 4);
      header_.colours = number(46, 4);
    } else {
      refuse("a header of 12 or 40 to 124 bytes", std::to_string(header_.size));
    }
    const std::uint32_t bits = header_.bits;
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32) {
      refuse("1, 4, 8, 16, 24 or 32 bits a pixel", std::to_string(bits));
    }
    if (header_.compression != kRgb && !(header_.compression == kBitfields && bits >= 16)) {
      refuse("no compression", "method " + std::to_string(header_.compression));
    }
    if (bits <= 8 && header_.colours == 0) header_.colours = 1U << bits;
    if (bits <= 8 && header_.colours > 256) {
      damaged("its palette has " + std::to_string(header_.colours) + " colours");
    }
    read_masks();
  }

  void read_masks() {
    if (header_.bits == 16) {
      header_.masks = {0x7C00, 0x3E0, 0x1F, 0};
    } else {
      header_.masks = {0xFF0000, 0xFF00, 0xFF, 0};
    }
    if (header_.compression != kBitfields) return;
    // Behind a header of 40 bytes, and at the same place within a longer one, which has alpha too.
    for (std::size_t i = 0; i < (header_.size >= 56 ? 4U : 3U); ++i) {
      header_.masks[i] = number(kFileHeader + 40 + 4 * i, 4);
    }
  }

  Image with_palette() const {
    const std::size_t entry = header_.size == 12 ? 3 : 4;
    const std::size_t start = kFileHeader + header_.size;
    if (start > bytes_.size() || header_.colours * entry > bytes_.size() - start) {
      damaged("its palette is cut off");
    }
    std::array<std::array<std::uint8_t, 3>, 256> palette{};  // a colour beyond the palette is black
    bool grey = true;
    for (std::size_t i = 0; i < header_.colours; ++i) {
      const std::uint8_t* blue = bytes_.data() + start + i * entry;
      palette[i] = {blue[2], blue[1], blue[0]};
      const std::size_t level = header_.colours == 2 ? i * 255 : i;
      for (const std::uint8_t value : palette[i]) grey = grey && value == level;
    }
    return image(grey ? 1 : 3, [&](const std::uint8_t* row, std::int64_t x, std::uint8_t* into) {
      const std::int64_t per_byte = 8 / header_.bits;
      const int shift = static_cast<int>((per_byte - 1 - x % per_byte) * header_.bits);
      const unsigned index = row[x / per_byte] >> shift & ((1U << header_.bits) - 1);
      std::copy_n(palette[index].begin(), grey ? 1 : 3, into);
    });
  }

  Image with_colours() const {
    const std::array<Channel, 4> channels{Channel(header_.masks[0]), Channel(header_.masks[1]),
                                          Channel(header_.masks[2]), Channel(header_.masks[3])};
    const bool alpha = header_.masks[3] != 0;
    const std::size_t size = header_.bits / 8;
    return image(3, [&](const std::uint8_t* row, std::int64_t x, std::uint8_t* into) {
      std::uint32_t pixel = 0;
      for (std::size_t i = 0; i < size; ++i) pixel |= std::uint32_t{row[x * size + i]} << (8 * i);
      const unsigned opacity = alpha ? channels[3].of(pixel) : 255;
      for (int c = 0; c < 3; ++c) {
        into[c] = static_cast<std::uint8_t>((channels[c].of(pixel) * opacity + 127) / 255);
      }
    });
  }

  template <typename Pixel>
  Image image(std::int64_t channels, const Pixel& pixel) const {
    std::vector<std::uint8_t> interleaved(channels * header_.height * header_.width);
    std::uint8_t* into = interleaved.data();
    for (std::int64_t y = 0; y < header_.height; ++y) {
      check_interrupt();
      const std::int64_t stored = header_.top_down ? y : header_.height - 1 - y;
      const std::uint8_t* row = pixels_.data() + stored * stride_;
      for (std::int64_t x = 0; x < header_.width; ++x, into += channels) pixel(row, x, into);
    }
    return from_interleaved(interleaved.data(), channels, header_.height, header_.width);
  }

  // The little-endian number of `size` bytes at a place of the header.
  std::uint32_t number(std::size_t at, std::size_t size) const {
    if (at + size > bytes_.size()) damaged("its header is cut off");
    std::uint32_t value = 0;
    for (std::size_t i = size; i > 0; --i) value = value << 8 | bytes_[at + i - 1];
    return value;
  }

  [[noreturn]] void damaged(const std::string& what) const {
    throw Error(name_ + ": damaged BMP image: " + what);
  }

  [[noreturn]] void refuse(const std::string& rule, const std::string& came) const {
    throw Error(name_ + ": a BMP image must have " + rule + ", got " + came);
  }

  Bytes bytes_;
  const std::string& name_;
  Header header_;
  Bytes pixels_;
  std::size_t stride_ = 0;
};

}  // namespace

Decoded decode_bmp(Bytes bytes, const std::string& name) { return Reader(bytes, name).decode(); }

}  // namespace labelassemble
