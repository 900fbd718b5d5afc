#include "labelassemble/image.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <system_error>

#include "decoders.h"
#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"

namespace labelassemble {
namespace {

// A file beyond this cannot be an image within kMaxImagePixels in any of the formats.
constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{1} << 30;

bool holds(Bytes bytes, std::size_t at, std::string_view magic) {
  return bytes.size() >= at + magic.size() &&
         std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

// Whether 16-bit values of which `bits` count are stored as 0 to 2^bits - 1 instead of scaled up,
// as the standard wants: labelassemble.data.decoding.stands_unscaled, which says why.
bool stands_unscaled(const std::vector<std::uint16_t>& wide, int bits) {
  constexpr int kSurelyDark = 12;
  const std::uint32_t beyond = 1U << bits;
  const std::uint32_t low = (1U << (16 - bits)) - 1;
  bool any_low = false;
  for (const std::uint16_t value : wide) {
    if (value >= beyond) return false;
    any_low = any_low || (value & low) != 0;
  }
  return bits <= kSurelyDark || any_low;
}

// Grey of more than 8 bits as 8: the largest value that its bits can hold becomes 255, whatever the
// image holds, so that two images of one scanner stay comparable.
std::vector<std::uint8_t> narrow(const Decoded& decoded) {
  int bits = decoded.bits;
  if (decoded.significant_bits > 0 && stands_unscaled(decoded.wide, decoded.significant_bits)) {
    bits = decoded.significant_bits;
  }
  const std::uint64_t largest = (std::uint64_t{1} << bits) - 1;
  std::vector<std::uint8_t> pixels(decoded.wide.size());
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    pixels[i] = static_cast<std::uint8_t>((decoded.wide[i] * 510 + largest) / (2 * largest));
  }
  if (decoded.white_is_zero) {
    for (std::uint8_t& pixel : pixels) pixel = 255 - pixel;
  }
  return pixels;
}

// The image as a viewer shows it. EXIF names what is at the stored row 0 and column 0: from 5 on
// rows and columns change places.
Image upright(Image stored, int orientation) {
  if (orientation == 1) return stored;
  const bool transposed = orientation >= 5;
  const bool mirrored = orientation == 2 || orientation == 3 || orientation == 7 ||
                        orientation == 8;  // of the stored columns
  const bool flipped = orientation == 3 || orientation == 4 || orientation == 6 ||
                       orientation == 7;  // of the stored rows
  admit_image(stored.pixels.size(), 0);
  Image image{stored.channels, transposed ? stored.width : stored.height,
              transposed ? stored.height : stored.width,
              std::vector<std::uint8_t>(stored.pixels.size())};
  std::size_t next = 0;
  for (std::int64_t c = 0; c < image.channels; ++c) {
    for (std::int64_t y = 0; y < image.height; ++y) {
      for (std::int64_t x = 0; x < image.width; ++x) {
        std::int64_t row = transposed ? x : y;
        std::int64_t column = transposed ? y : x;
        if (flipped) row = stored.height - 1 - row;
        if (mirrored) column = stored.width - 1 - column;
        image.pixels[next++] = stored.pixels[(c * stored.height + row) * stored.width + column];
      }
    }
  }
  return image;
}

std::vector<std::uint8_t> read_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw Error(path.string() + ": no such image");
  if (!std::filesystem::is_regular_file(status)) {
    throw Error(path.string() + ": an image must be a regular file");
  }
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) throw Error(path.string() + ": cannot be read (" + error.message() + ")");
  if (size > kMaxFileBytes) {
    throw Error(path.string() + ": an image file must have at most " +
                std::to_string(kMaxFileBytes) + " bytes, got " + std::to_string(size));
  }
  std::vector<std::uint8_t> bytes(size);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!file || static_cast<std::uintmax_t>(file.gcount()) != size) {
    throw Error(path.string() + ": cannot be read (" +
                (errno != 0 ? std::strerror(errno) : "it became shorter meanwhile") + ")");
  }
  return bytes;
}

}  // namespace

void check_dimensions(std::int64_t width, std::int64_t height, const std::string& name) {
  const std::string came = std::to_string(width) + " x " + std::to_string(height);
  if (width < 1 || height < 1) {
    throw Error(name + ": an image must have at least one pixel, got " + came);
  }
  if (width > kMaxImagePixels / height) {
    throw Error(name + ": an image must have at most " + std::to_string(kMaxImagePixels) +
                " pixels, got " + came);
  }
}

Image from_interleaved(const std::uint8_t* pixels, std::int64_t channels, std::int64_t height,
                       std::int64_t width) {
  const std::int64_t plane = height * width;
  Image image{channels, height, width, std::vector<std::uint8_t>(channels * plane)};
  if (channels == 1) {
    std::copy_n(pixels, plane, image.pixels.begin());
    return image;
  }
  for (std::int64_t i = 0; i < plane; ++i) {
    for (std::int64_t c = 0; c < channels; ++c)
      image.pixels[c * plane + i] = pixels[i * channels + c];
  }
  return image;
}

void compose_on_black(std::vector<std::uint8_t>& pixels, std::size_t colours) {
  const std::size_t count = pixels.size() / (colours + 1);
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned alpha = pixels[i * (colours + 1) + colours];
    for (std::size_t c = 0; c < colours; ++c) {
      pixels[i * colours + c] = (pixels[i * (colours + 1) + c] * alpha + 127) / 255;
    }
  }
}

void cmyk_to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb) {
  const int light = 255 - cmyk[3];
  for (int c = 0; c < 3; ++c) {
    const int product = cmyk[c] * light + 128;
    rgb[c] = static_cast<std::uint8_t>(std::max(0, light - (((product >> 8) + product) >> 8)));
  }
}

void fail_without_library(const std::string& name, const char* format, const char* library,
                          const char* package) {
  throw Error(name + ": " + format + ": built without " + library + ": install " + package +
              " and build labelassemble again");
}

std::string_view format_of(Bytes bytes) {
  using namespace std::string_view_literals;
  if (holds(bytes, 0, "P5")) return "PGM";
  if (holds(bytes, 0, "P6")) return "PPM";
  if (holds(bytes, 0, "\x89PNG\r\n\x1a\n")) return "PNG";
  if (holds(bytes, 0, "\xff\xd8\xff")) return "JPEG";
  for (const auto magic : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv}) {
    if (holds(bytes, 0, magic)) return "TIFF";
  }
  if (holds(bytes, 0, "RIFF") && holds(bytes, 8, "WEBP")) return "WebP";
  if (holds(bytes, 0, "BM")) return "BMP";
  return "";
}

Decoded decode_file(Bytes bytes, const std::string& name) {
  if (bytes.empty()) throw Error(name + ": an image must not be empty");
  const std::string_view format = format_of(bytes);
  if (format == "PGM" || format == "PPM") return decode_pnm(bytes, name);
  if (format == "PNG") return decode_png(bytes, name);
  if (format == "JPEG") return decode_jpeg(bytes, name);
  if (format == "TIFF") return decode_tiff(bytes, name);
  if (format == "WebP") return decode_webp(bytes, name);
  if (format == "BMP") return decode_bmp(bytes, name);
  throw Error(name +
              ": not an image of a known kind: expected PNG, JPEG, TIFF, WebP, BMP, or binary PGM "
              "or PPM");
}

Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name) {
  Decoded decoded = decode_file(bytes, name);
  if (!decoded.wide.empty()) decoded.image.pixels = narrow(decoded);
  return upright(std::move(decoded.image), decoded.orientation);
}

Image read_image(const std::filesystem::path& path) {
  return decode_image(read_file(path), path.string());
}

std::vector<std::string> readable_formats() {
  return {
#ifdef LABELASSEMBLE_WITH_PNG
      "PNG",
#endif
#ifdef LABELASSEMBLE_WITH_JPEG
      "JPEG",
#endif
#ifdef LABELASSEMBLE_WITH_TIFF
      "TIFF",
#endif
#ifdef LABELASSEMBLE_WITH_WEBP
      "WebP",
#endif
      "BMP",  "PGM", "PPM",
  };
}

}  // namespace labelassemble
