// PNG through libpng.
#include "decoders.h"
#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"

#ifdef LABELASSEMBLE_WITH_PNG
#include <png.h>
#include <zlib.h>

#include <csetjmp>
#include <cstring>
#include <vector>
#endif

namespace labelassemble {

#ifdef LABELASSEMBLE_WITH_PNG
namespace {

constexpr int kBand = 16;  // rows between two questions whether to give up

constexpr std::size_t kLongestExif = 65536;  // beyond it there is no orientation

struct Source {
  const std::uint8_t* next;
  std::size_t left;
};

// What the rows hold once libpng has expanded palettes, bits and transparency.
struct Layout {
  png_uint_32 width = 0;
  png_uint_32 height = 0;
  std::size_t stored_row = 0;  // bytes, as the file has it
  int samples = 0;             // values a pixel, alpha included
  bool sixteen_bit = false;    // one big-endian 16-bit grey value a pixel
  int significant_bits = 0;
  bool interlaced = false;
};

void read_bytes(png_structp png, png_bytep into, std::size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->left) png_error(png, "it is cut off");
  if (is_interrupted()) png_error(png, "it was given up");
  std::memcpy(into, source->next, count);
  source->next += count;
  source->left -= count;
}

// Every chunk up to the last must be there, with a check sum that is right. libpng would pass over
// what stands outside the pixels, and looks no further than the chunk at hand.
void check_chunks(Bytes bytes, const std::string& name) {
  std::size_t at = 8;
  while (bytes.size() - at >= 12) {
    const std::uint8_t* chunk = bytes.data() + at;
    const std::size_t size = png_get_uint_32(chunk);
    if (size > bytes.size() - at - 12) break;
    const auto sum = crc32(0, chunk + 4, static_cast<uInt>(size + 4));
    if (sum != png_get_uint_32(chunk + 8 + size)) {
      throw Error(name + ": damaged PNG image: a check sum does not match");
    }
    if (std::memcmp(chunk + 4, "IEND", 4) == 0) return;
    at += size + 12;
  }
  throw Error(name + ": damaged PNG image: it is cut off");
}

// Called for every row when its values are there.
void count_row(png_structp png, png_row_infop, png_bytep) {
  const std::int64_t rows = ++*static_cast<std::int64_t*>(png_get_user_transform_ptr(png));
  if (rows % kBand == 0 && is_interrupted()) png_error(png, "it was given up");
}

// The rows of the passes of an interlaced image, or its height.
std::int64_t rows_of(const Layout& layout) {
  if (!layout.interlaced) return layout.height;
  std::int64_t rows = 0;
  for (int pass = 0; pass < 7; ++pass) {
    if (PNG_PASS_COLS(layout.width, pass) > 0) rows += PNG_PASS_ROWS(layout.height, pass);
  }
  return rows;
}

void ignore_warning(png_structp, png_const_charp) {}

// libpng reports an error by calling this, which must not return: the sentence is kept, and longjmp
// leads back to the caller's setjmp.
void keep_error(png_structp png, png_const_charp message) {
  *static_cast<std::string*>(png_get_error_ptr(png)) = message;
  png_longjmp(png, 1);
}

// longjmp skips destructors, so these two functions hold nothing that has one.
bool read_header(png_structp png, png_infop info, Layout* layout) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_info(png, info);
  const int type = png_get_color_type(png, info);
  const int depth = png_get_bit_depth(png, info);
  layout->width = png_get_image_width(png, info);
  layout->stored_row = png_get_rowbytes(png, info);
  layout->height = png_get_image_height(png, info);
  layout->sixteen_bit = type == PNG_COLOR_TYPE_GRAY && depth == 16;
  png_color_8p significant = nullptr;
  if (png_get_sBIT(png, info, &significant) != 0 && significant->gray >= 1 &&
      significant->gray <= 16) {
    layout->significant_bits = significant->gray;
  }
  if (!layout->sixteen_bit) {
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
    if (png_get_valid(png, info, PNG_INFO_tRNS) != 0) png_set_tRNS_to_alpha(png);
    if (depth == 16) png_set_strip_16(png);
  }
  layout->interlaced = png_set_interlace_handling(png) > 1;
  png_read_update_info(png, info);
  layout->samples = png_get_channels(png, info);
  return true;
}

bool read_rows(png_structp png, png_bytepp rows) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_image(png, rows);
  return true;
}

// Reads one PNG; RAII for what libpng allocates.
class Reader {
 public:
  Reader(Bytes bytes, const std::string& name) : source_{bytes.data(), bytes.size()}, name_(name) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &message_, keep_error, ignore_warning);
    info_ = png_ != nullptr ? png_create_info_struct(png_) : nullptr;
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw Error(name + ": libpng could not start");
    }
    png_set_read_fn(png_, &source_, read_bytes);
    // Nobody reads texts and profiles, and inflating them takes time.
    constexpr png_byte kUnread[] = "zTXt\0iTXt\0tEXt\0iCCP\0sPLT";
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, kUnread, 5);
    png_set_crc_action(png_, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);  // check_chunks has looked
#ifdef PNG_IGNORE_ADLER32
    png_set_option(png_, PNG_IGNORE_ADLER32, PNG_OPTION_ON);
#endif
    png_set_read_user_transform_fn(png_, count_row);
    png_set_user_transform_info(png_, &rows_, 0, 0);
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  Layout header() {
    Layout layout;
    if (!read_header(png_, info_, &layout)) fail();
    return layout;
  }

  std::size_t row_bytes() const { return png_get_rowbytes(png_, info_); }
  std::vector<std::uint8_t> pixels(const Layout& layout) {
    const std::size_t stride = png_get_rowbytes(png_, info_);
    std::vector<std::uint8_t> pixels(stride * layout.height);
    std::vector<png_bytep> rows(layout.height);
    for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = pixels.data() + y * stride;
    // What is wrong behind the last row, as a missing end of the compressed data, costs no pixel.
    if (!read_rows(png_, rows.data()) && rows_ < rows_of(layout)) fail();
    return pixels;
  }

 private:
  [[noreturn]] void fail() const {
    check_interrupt();
    throw Error(name_ + ": damaged PNG image: " + message_);
  }

  Source source_;
  std::int64_t rows_ = 0;
  const std::string& name_;
  std::string message_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

// The orientation in the chunk eXIf, wherever it stands; libpng has checked the chunks.
int orientation_of(Bytes bytes) {
  std::size_t at = 8;
  while (bytes.size() - at >= 12) {
    const std::uint32_t size = png_get_uint_32(bytes.data() + at);
    if (size > bytes.size() - at - 12) break;
    if (std::memcmp(bytes.data() + at + 4, "eXIf", 4) == 0) {
      return size <= kLongestExif ? exif_orientation(bytes.subspan(at + 8, size)) : 1;
    }
    at += size + 12;
  }
  return 1;
}

}  // namespace

Decoded decode_png(Bytes bytes, const std::string& name) {
  check_chunks(bytes, name);
  Reader reader(bytes, name);
  const Layout layout = reader.header();
  check_dimensions(layout.width, layout.height, name);
  const std::size_t area = std::size_t{layout.width} * layout.height;
  const std::size_t row = reader.row_bytes();
  // Rows, pointers to them, and planes (or 16-bit grey and then 8 bits).
  admit_image((row + sizeof(void*)) * layout.height + 3 * area, layout.stored_row * layout.height);
  std::vector<std::uint8_t> pixels = reader.pixels(layout);
  Decoded decoded;
  decoded.orientation = orientation_of(bytes);
  if (layout.sixteen_bit) {
    decoded.image = {1, layout.height, layout.width, {}};
    decoded.significant_bits = layout.significant_bits;
    decoded.wide.resize(pixels.size() / 2);
    for (std::size_t i = 0; i < decoded.wide.size(); ++i) {
      decoded.wide[i] = static_cast<std::uint16_t>(pixels[2 * i] * 256U + pixels[2 * i + 1]);
    }
    return decoded;
  }
  int channels = layout.samples;
  if (channels == 2 || channels == 4) {
    channels -= 1;
    compose_on_black(pixels, channels);
  }
  decoded.image = from_interleaved(pixels.data(), channels, layout.height, layout.width);
  return decoded;
}

#else

Decoded decode_png(Bytes, const std::string& name) {
  fail_without_library(name, "PNG", "libpng", "libpng-dev");
}

#endif

}  // namespace labelassemble
