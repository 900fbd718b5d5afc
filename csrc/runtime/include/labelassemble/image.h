// Decoded images, and reading them from PNG, JPEG, TIFF, WebP, BMP, PGM and PPM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace labelassemble {

// Larger images are refused before anything is allocated for them. Pillow's limit, so Python reads
// the same ones.
inline constexpr std::int64_t kMaxImagePixels = 89'478'485;

// A decoded image: pixels[(channel * height + row) * width + column], 1 channel (grey) or 3 (red,
// green, blue).
struct Image {
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<std::uint8_t> pixels;
};

// The image in a file, recognised by its first bytes and not by its name. The pixels are those of
// labelassemble.data.images.decode_image, and so is what counts as damaged: transparency composed
// on black, 16-bit grey scaled to 8 bits, turned as its EXIF orientation says. Throws Error: no
// such file, another format, or a damaged image.
Image read_image(const std::filesystem::path& path);

// The same from memory; `name` is what errors call it.
Image decode_image(std::span<const std::uint8_t> bytes, const std::string& name);

// What this build reads: "BMP", "PGM", "PPM", and "PNG", "JPEG", "TIFF" and "WebP" where their
// libraries were there.
std::vector<std::string> readable_formats();

}  // namespace labelassemble
