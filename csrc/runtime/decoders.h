// One decoder a format; each takes the whole file and the name that its errors use.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "labelassemble/image.h"

namespace labelassemble {

using Bytes = std::span<const std::uint8_t>;

Image decode_pnm(Bytes bytes, const std::string& name);   // binary PGM (P5) and PPM (P6)
Image decode_png(Bytes bytes, const std::string& name);   // throws when built without libpng
Image decode_jpeg(Bytes bytes, const std::string& name);  // throws when built without libjpeg

// Throws Error unless 1 <= width, height and the image stays within kMaxImagePixels.
void check_dimensions(std::int64_t width, std::int64_t height, const std::string& name);

// Image from rows of interleaved pixels, as decoders give them.
Image from_interleaved(const std::uint8_t* pixels, std::int64_t channels, std::int64_t height,
                       std::int64_t width);

}  // namespace labelassemble
