#include "tiff_directory.h"

#ifdef LABELASSEMBLE_WITH_TIFF
#include <tiff.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"

namespace labelassemble {
namespace {

// Of the first directory, what says how many strips or tiles there are.
struct Sides {
  std::uint64_t width = 0;
  std::uint64_t height = 0;
  std::uint64_t planes = 1;
  bool separate = false;
  std::uint64_t rows_a_strip = 0;
  std::uint64_t tile_width = 0;
  std::uint64_t tile_height = 0;

  // An entry may stand there twice: whichever makes more of them.
  void set(std::uint64_t tag, std::uint64_t value) {
    const auto smallest = [value](std::uint64_t& part) {
      if (value > 0 && (part == 0 || value < part)) part = value;
    };
    if (tag == TIFFTAG_IMAGEWIDTH) width = std::max(width, value);
    if (tag == TIFFTAG_IMAGELENGTH) height = std::max(height, value);
    if (tag == TIFFTAG_SAMPLESPERPIXEL) planes = std::max(planes, value);
    if (tag == TIFFTAG_PLANARCONFIG) separate = separate || value == PLANARCONFIG_SEPARATE;
    if (tag == TIFFTAG_ROWSPERSTRIP) smallest(rows_a_strip);
    if (tag == TIFFTAG_TILEWIDTH) smallest(tile_width);
    if (tag == TIFFTAG_TILELENGTH) smallest(tile_height);
  }

  // As double: hostile sides overflow.
  std::uint64_t pieces() const {
    const auto parts = [](std::uint64_t side, std::uint64_t part) {
      return part == 0 ? 1.0 : std::ceil(static_cast<double>(side) / static_cast<double>(part));
    };
    // Where a file has a tile's width alone, libtiff takes the rows of a strip for its height.
    const double down = std::max(parts(height, tile_height), parts(height, rows_a_strip));
    const double all =
        parts(width, tile_width) * down * (separate ? static_cast<double>(planes) : 1.0);
    constexpr double kMost = 1e15;
    return static_cast<std::uint64_t>(std::min(all, kMost));
  }
};

}  // namespace

void check_tiff_directory(Bytes bytes, const std::string& name) {
  if (bytes.size() < 16) return;  // libtiff says what is wrong
  const bool big_endian = bytes[0] == 'M';
  const auto number = [&](std::size_t at, std::size_t size) {
    std::uint64_t value = 0;
    if (at > bytes.size() || size > bytes.size() - at) return value;
    for (std::size_t i = 0; i < size; ++i) {
      value = value << 8 | bytes[at + (big_endian ? i : size - 1 - i)];
    }
    return value;
  };
  const bool big = number(2, 2) == 43;  // BigTIFF
  const std::size_t word = big ? 8 : 4;
  const std::uint64_t directory = number(big ? 8 : 4, word);
  const std::uint64_t entries = number(directory, big ? 8 : 2);
  const std::size_t entry_size = 4 + 2 * word;
  std::uint64_t total = 0;
  std::uint64_t strips = 0;  // values of the lists of strips and tiles
  Sides sides;
  for (std::uint64_t i = 0; i < entries; ++i) {
    const std::uint64_t entry = directory + (big ? 8 : 2) + i * entry_size;
    if (entry > bytes.size() || entry_size > bytes.size() - entry) break;
    constexpr std::array<std::uint64_t, 19> kSizes{0, 1, 1, 2, 4, 8, 1, 1, 2, 4,
                                                   8, 4, 8, 4, 0, 0, 8, 8, 8};
    const std::uint64_t tag = number(entry, 2);
    const std::uint64_t type = number(entry + 2, 2);
    const std::uint64_t size = type < kSizes.size() ? kSizes[type] : 0;
    const std::uint64_t count = number(entry + 4, word);
    if (size > 0 && count > (bytes.size() - std::min<std::uint64_t>(total, bytes.size())) / size) {
      throw Error(name +
                  ": damaged TIFF image: the values of its directory are longer than the file");
    }
    total += size * count;
    if (tag == TIFFTAG_STRIPOFFSETS || tag == TIFFTAG_STRIPBYTECOUNTS ||
        tag == TIFFTAG_TILEOFFSETS || tag == TIFFTAG_TILEBYTECOUNTS) {
      strips += count;
    }
    if (size > 0 && size <= word) sides.set(tag, number(entry + 4 + word, size));
  }
  constexpr std::uint64_t kMostMade = 1'000'000;  // libtiff's own limit
  const std::uint64_t made = 2 * std::min(sides.pieces(), kMostMade);
  admit_image(2 * total + sizeof(std::uint64_t) * (strips + made), 0);
}

// Twice around, libtiff reads what it believes and grows its buffer by steps of ten: a MiB comes
// first, and more only once the file has given that.
std::size_t tiff_read_buffer(std::uint64_t claimed, std::uint64_t decoded, std::uint64_t file) {
  constexpr std::uint64_t kFirst = std::uint64_t{1} << 20;
  constexpr std::uint64_t kHeader = 4096;
  // As TIFFFillStrip bounds a length that no compression needs.
  std::uint64_t wanted = claimed;
  if (wanted > kFirst && (wanted - kHeader) / 10 > decoded) wanted = decoded * 10 + kHeader;
  std::uint64_t before = 0;
  std::uint64_t step = kFirst;
  while (before + step < wanted && before + step <= file) {
    before += step;
    step *= 10;
  }
  // The buffer before is held until it is copied.
  return std::min(wanted, before + step) + before;
}

std::size_t tiff_decoder_memory(std::uint16_t compression, std::uint64_t row_pixels,
                                std::uint64_t decoded) {
  switch (compression) {
    case COMPRESSION_CCITTRLE:
    case COMPRESSION_CCITTRLEW:
    case COMPRESSION_CCITTFAX3:
    case COMPRESSION_CCITTFAX4:
      // The lengths of the runs of a row and of the one before, twice as many as are needed.
      return 4 * sizeof(std::uint32_t) * (row_pixels + 32);
    case COMPRESSION_JPEG:
      return 2 * decoded;  // coefficients, where its scans are progressive
    default:
      return 0;
  }
}

}  // namespace labelassemble

#endif
