#include "labelassemble/image.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <system_error>

#include "decoders.h"
#include "labelassemble/error.h"

namespace labelassemble {
namespace {

// A file beyond this cannot be an image within kMaxImagePixels in any of the formats.
constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{1} << 30;

bool starts_with(Bytes bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
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

Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name) {
  if (bytes.empty()) throw Error(name + ": an image must not be empty");
  if (starts_with(bytes, "P5") || starts_with(bytes, "P6")) return decode_pnm(bytes, name);
  if (starts_with(bytes, "\x89PNG\r\n\x1a\n")) return decode_png(bytes, name);
  if (starts_with(bytes, "\xff\xd8\xff")) return decode_jpeg(bytes, name);
  throw Error(name + ": not an image that can be read: expected binary PGM or PPM, PNG or JPEG");
}

Image read_image(const std::filesystem::path& path) {
  return decode_image(read_file(path), path.string());
}

std::vector<std::string> readable_formats() {
  return {
      "PGM",
      "PPM",
#ifdef LABELASSEMBLE_WITH_PNG
      "PNG",
#endif
#ifdef LABELASSEMBLE_WITH_JPEG
      "JPEG",
#endif
  };
}

}  // namespace labelassemble
