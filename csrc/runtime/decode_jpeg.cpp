// JPEG through libjpeg (libjpeg-turbo on Debian), with the library's default, accurate transform,
// as Pillow.
#include "decoders.h"
#include "labelassemble/error.h"

#ifdef LABELASSEMBLE_WITH_JPEG
#include <csetjmp>
#include <cstdio>
#include <vector>

// clang-format off: jpeglib.h needs FILE, and jerror.h needs jpeglib.h, without including either
#include <jpeglib.h>
#include <jerror.h>
// clang-format on
#endif

namespace labelassemble {

#ifdef LABELASSEMBLE_WITH_JPEG
namespace {

struct ErrorManager {
  jpeg_error_mgr base;  // first, so that libjpeg's pointer is ours
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

// libjpeg's error_exit must not return: the sentence is kept, and longjmp leads back to setjmp.
void keep_error(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  manager->base.format_message(info, manager->message);
  std::longjmp(manager->jump, 1);
}

// A file that ends early is only a warning to libjpeg, which fills the rest with grey; half an
// image must not get an answer, so these two are errors. Other warnings are harmless and frequent.
void on_message(j_common_ptr info, int level) {
  const int code = info->err->msg_code;
  if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) keep_error(info);
}

void discard_output(j_common_ptr) {}

// longjmp skips destructors, so these two functions hold nothing that has one.
bool read_header(jpeg_decompress_struct* jpeg, ErrorManager* manager, Bytes bytes) {
  if (setjmp(manager->jump) != 0) return false;
  jpeg_mem_src(jpeg, bytes.data(), bytes.size());
  jpeg_read_header(jpeg, TRUE);
  return true;
}

bool read_rows(jpeg_decompress_struct* jpeg, ErrorManager* manager, std::uint8_t* pixels) {
  if (setjmp(manager->jump) != 0) return false;
  jpeg->out_color_space = jpeg->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_start_decompress(jpeg);
  const std::size_t stride = std::size_t{jpeg->output_width} * jpeg->output_components;
  while (jpeg->output_scanline < jpeg->output_height) {
    JSAMPROW row = pixels + jpeg->output_scanline * stride;
    jpeg_read_scanlines(jpeg, &row, 1);
  }
  jpeg_finish_decompress(jpeg);
  return true;
}

// Owns what libjpeg allocates.
class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {
    jpeg_.err = jpeg_std_error(&manager_.base);
    manager_.base.error_exit = keep_error;
    manager_.base.emit_message = on_message;
    manager_.base.output_message = discard_output;
    // Fails only where the header that this was compiled against is another libjpeg's.
    if (setjmp(manager_.jump) != 0) fail();
    jpeg_create_decompress(&jpeg_);
  }
  ~Reader() { jpeg_destroy_decompress(&jpeg_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  void header(Bytes bytes) {
    if (!read_header(&jpeg_, &manager_, bytes)) fail();
  }
  std::int64_t width() const { return jpeg_.image_width; }
  std::int64_t height() const { return jpeg_.image_height; }
  int components() const { return jpeg_.num_components; }

  std::vector<std::uint8_t> pixels() {
    std::vector<std::uint8_t> pixels(width() * height() * components());
    if (!read_rows(&jpeg_, &manager_, pixels.data())) fail();
    return pixels;
  }

 private:
  [[noreturn]] void fail() const {
    throw Error(name_ + ": damaged JPEG image: " + manager_.message);
  }

  jpeg_decompress_struct jpeg_{};
  ErrorManager manager_{};
  const std::string& name_;
};

}  // namespace

Image decode_jpeg(Bytes bytes, const std::string& name) {
  Reader reader(name);
  reader.header(bytes);
  check_dimensions(reader.width(), reader.height(), name);
  if (reader.components() != 1 && reader.components() != 3) {
    throw Error(name + ": a JPEG image must be grey or colour with 1 or 3 components, got " +
                std::to_string(reader.components()));
  }
  const std::vector<std::uint8_t> pixels = reader.pixels();
  return from_interleaved(pixels.data(), reader.components(), reader.height(), reader.width());
}

#else

Image decode_jpeg(Bytes, const std::string& name) {
  throw Error(
      name + ": this build of labelassemble reads no JPEG: install libjpeg-dev and build it again");
}

#endif

}  // namespace labelassemble
