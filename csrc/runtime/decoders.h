// One decoder a format; each takes the whole file and the name that its errors use.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "labelassemble/image.h"

namespace labelassemble {

using Bytes = std::span<const std::uint8_t>;

// What a file holds. Grey of more than 8 bits is in `wide` until it is known what its range is: row
// by row, `image.pixels` is empty then.
struct Decoded {
  Image image;
  std::vector<std::uint16_t> wide;
  int bits = 16;             // that values of `wide` have
  int significant_bits = 0;  // of those 16, that count, where the file says so (PNG's sBIT); 0: all
  bool white_is_zero = false;  // in `wide`; elsewhere it is done with
  int orientation = 1;         // EXIF's: 1 upright, 2 to 8 mirrored or turned
};

// The name of the format by the first bytes: "PNG", "JPEG", "TIFF", "WebP", "BMP", "PGM", "PPM";
// empty for any other.
std::string_view format_of(Bytes bytes);

Decoded decode_file(Bytes bytes, const std::string& name);

Decoded decode_pnm(Bytes bytes, const std::string& name);  // binary PGM (P5) and PPM (P6)
Decoded decode_bmp(Bytes bytes, const std::string& name);
Decoded decode_png(Bytes bytes, const std::string& name);   // throws when built without libpng
Decoded decode_jpeg(Bytes bytes, const std::string& name);  // throws when built without libjpeg
Decoded decode_tiff(Bytes bytes, const std::string& name);  // throws when built without libtiff
Decoded decode_webp(Bytes bytes, const std::string& name);  // throws when built without libwebp

// Throws Error unless the Huffman or arithmetic code of a JPEG file gives every block of its image,
// as decode_jpeg demands, without computing pixels.
void check_jpeg(Bytes bytes, const std::string& name);

// The orientation that an EXIF block (a TIFF header and directory) names; 1 where it names none.
int exif_orientation(Bytes exif);

// Throws Error unless 1 <= width, height and the image stays within kMaxImagePixels.
void check_dimensions(std::int64_t width, std::int64_t height, const std::string& name);

// Throws Error: this build lacks the library that reads `format`.
[[noreturn]] void fail_without_library(const std::string& name, const char* format,
                                       const char* library, const char* package);

// Image from rows of interleaved pixels, as decoders give them.
Image from_interleaved(const std::uint8_t* pixels, std::int64_t channels, std::int64_t height,
                       std::int64_t width);

// Composes `colours` values and alpha on black, in place: the first `colours` of every pixel,
// packed.
void compose_on_black(std::vector<std::uint8_t>& pixels, std::size_t colours);

// Four inks, 0 = none, as red, green and blue; the arithmetic is Pillow's.
void cmyk_to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb);

}  // namespace labelassemble
