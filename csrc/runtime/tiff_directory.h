// What libtiff will take of memory to open a TIFF file and to read from it, told before it does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "decoders.h"

namespace labelassemble {

// Admits what libtiff takes when it opens a file: it copies the values of every entry of the first
// directory, also where all entries point at the same bytes, and makes numbers of 64 bits of those
// of the strips or tiles, of which it makes as many as the sides say, whatever the file holds.
// Throws Error where the values are longer than the file.
void check_tiff_directory(Bytes bytes, const std::string& name);

// Bytes that libtiff takes to read a strip or tile as it is stored: `claimed`, its length by the
// directory; `decoded`, its length without compression; `file`, that of the file.
std::size_t tiff_read_buffer(std::uint64_t claimed, std::uint64_t decoded, std::uint64_t file);

// Bytes that libtiff's decoder of a compression takes beside that, for rows of `row_pixels` and
// strips or tiles of `decoded` bytes.
std::size_t tiff_decoder_memory(std::uint16_t compression, std::uint64_t row_pixels,
                                std::uint64_t decoded);

}  // namespace labelassemble
