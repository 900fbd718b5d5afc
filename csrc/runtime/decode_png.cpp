// PNG through libpng.
#include "decoders.h"
#include "labelassemble/error.h"

#ifdef LABELASSEMBLE_WITH_PNG
#include <png.h>

#include <csetjmp>
#include <cstring>
#include <vector>
#endif

namespace labelassemble {

#ifdef LABELASSEMBLE_WITH_PNG
namespace {

struct Source {
  const std::uint8_t* next;
  std::size_t left;
};

// What the rows hold once libpng has expanded palettes, bits and transparency.
struct Layout {
  png_uint_32 width = 0;
  png_uint_32 height = 0;
  int samples = 0;           // values a pixel, alpha included
  bool sixteen_bit = false;  // one big-endian 16-bit grey value a pixel
};

void read_bytes(png_structp png, png_bytep into, std::size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->left) png_error(png, "it is cut off");
  std::memcpy(into, source->next, count);
  source->next += count;
  source->left -= count;
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
  layout->height = png_get_image_height(png, info);
  layout->sixteen_bit = type == PNG_COLOR_TYPE_GRAY && depth == 16;
  if (!layout->sixteen_bit) {
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
    if (png_get_valid(png, info, PNG_INFO_tRNS) != 0) png_set_tRNS_to_alpha(png);
    if (depth == 16) png_set_strip_16(png);
  }
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  layout->samples = png_get_channels(png, info);
  return true;
}

bool read_rows(png_structp png, png_bytepp rows) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_image(png, rows);
  png_read_end(png, nullptr);
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
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  Layout header() {
    Layout layout;
    if (!read_header(png_, info_, &layout)) fail();
    return layout;
  }

  std::vector<std::uint8_t> pixels(const Layout& layout) {
    const std::size_t stride = png_get_rowbytes(png_, info_);
    std::vector<std::uint8_t> pixels(stride * layout.height);
    std::vector<png_bytep> rows(layout.height);
    for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = pixels.data() + y * stride;
    if (!read_rows(png_, rows.data())) fail();
    return pixels;
  }

 private:
  [[noreturn]] void fail() const { throw Error(name_ + ": damaged PNG image: " + message_); }

  Source source_;
  const std::string& name_;
  std::string message_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

// Composes `colours` values and alpha on black, in place: the first `colours` of every pixel,
// packed.
void compose_on_black(std::vector<std::uint8_t>& pixels, std::size_t colours) {
  const std::size_t count = pixels.size() / (colours + 1);
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned alpha = pixels[i * (colours + 1) + colours];
    for (std::size_t c = 0; c < colours; ++c) {
      pixels[i * colours + c] = (pixels[i * (colours + 1) + c] * alpha + 127) / 255;
    }
  }
}

}  // namespace

Image decode_png(Bytes bytes, const std::string& name) {
  Reader reader(bytes, name);
  const Layout layout = reader.header();
  check_dimensions(layout.width, layout.height, name);
  std::vector<std::uint8_t> pixels = reader.pixels(layout);
  int channels = layout.samples;
  if (layout.sixteen_bit) {
    // 65535 becomes 255 whatever the image holds: two images of one scanner stay comparable.
    for (std::size_t i = 0; i < pixels.size() / 2; ++i) {
      const unsigned value = pixels[2 * i] * 256U + pixels[2 * i + 1];
      pixels[i] = (value + 128) / 257;
    }
  } else if (channels == 2 || channels == 4) {
    channels -= 1;
    compose_on_black(pixels, channels);
  }
  return from_interleaved(pixels.data(), channels, layout.height, layout.width);
}

#else

Image decode_png(Bytes, const std::string& name) {
  throw Error(name +
              ": this build of labelassemble reads no PNG: install libpng-dev and build it again");
}

#endif

}  // namespace labelassemble
