// JPEG through libjpeg (libjpeg-turbo on Debian), with the library's default, accurate transform,
// as Pillow.
#include "decoders.h"
#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"

#ifdef LABELASSEMBLE_WITH_JPEG
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <vector>

// clang-format off: jpeglib.h needs FILE, and jerror.h needs jpeglib.h, without including either
#include <jpeglib.h>
#include <jerror.h>
// clang-format on
#endif

namespace labelassemble {

#ifdef LABELASSEMBLE_WITH_JPEG
namespace {

constexpr int kBand = 16;  // rows between two questions whether to give up

// Encoders need about ten; each scan of a file of a few bytes may cost a pass over the whole image.
constexpr int kMaxScans = 100;
// Bytes between the code of a scan and the next marker that nobody needs: some encoders pad.
constexpr int kMaxPadding = 16;

struct ErrorManager {
  jpeg_error_mgr base;  // first, so that libjpeg's pointer is ours
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

struct Progress {
  jpeg_progress_mgr base;  // first, so that libjpeg's pointer is ours
  unsigned components;     // bit i: a scan of component i was seen
};

// libjpeg's error_exit must not return: the sentence is kept, and longjmp leads back to setjmp.
void keep_error(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  manager->base.format_message(info, manager->message);
  std::longjmp(manager->jump, 1);
}

[[noreturn]] void stop(j_common_ptr info, const char* message) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  std::snprintf(manager->message, sizeof manager->message, "%s", message);
  std::longjmp(manager->jump, 1);
}

// What the code of an image lacks or has too much of is only a warning to libjpeg, which fills with
// grey what it does not find. Half an image must not get an answer, so these are errors. Warnings
// about what stands before the image are harmless and frequent.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
      keep_error(info);
      break;
    case JWRN_EXTRANEOUS_DATA: {
      const auto* jpeg = reinterpret_cast<j_decompress_ptr>(info);
      if (jpeg->input_scan_number > 0 && info->err->msg_parm.i[0] > kMaxPadding) keep_error(info);
      break;
    }
    default:
      break;
  }
}

void discard_output(j_common_ptr) {}

// Called for every row of blocks while a file of several scans is read.
void on_progress(j_common_ptr info) {
  auto* jpeg = reinterpret_cast<j_decompress_ptr>(info);
  if (jpeg->input_scan_number > kMaxScans) stop(info, "it has more than 100 scans");
  if (is_interrupted()) stop(info, "it was given up");
  auto* progress = reinterpret_cast<Progress*>(jpeg->progress);
  for (int i = 0; i < jpeg->comps_in_scan; ++i) {
    progress->components |= 1U << jpeg->cur_comp_info[i]->component_index;
  }
}

// A file of several scans may end between two of them: then components or their last bits are
// missing.
void check_scans(jpeg_decompress_struct* jpeg, const Progress& progress) {
  if (jpeg->coef_bits == nullptr && !jpeg->buffered_image && progress.components == 0) return;
  for (int i = 0; i < jpeg->num_components; ++i) {
    bool whole = (progress.components >> i & 1U) != 0;
    if (jpeg->coef_bits != nullptr) {
      for (int k = 0; k < DCTSIZE2; ++k) whole = whole && jpeg->coef_bits[i][k] == 0;
    }
    if (!whole) stop(reinterpret_cast<j_common_ptr>(jpeg), "scans of the image are missing");
  }
}

// longjmp skips destructors, so these functions hold nothing that has one.
bool read_header(jpeg_decompress_struct* jpeg, ErrorManager* manager, Bytes bytes) {
  if (setjmp(manager->jump) != 0) return false;
  jpeg_mem_src(jpeg, bytes.data(), bytes.size());
  jpeg_read_header(jpeg, TRUE);
  return true;
}

bool read_rows(jpeg_decompress_struct* jpeg, ErrorManager* manager, const Progress* progress,
               std::uint8_t* pixels) {
  if (setjmp(manager->jump) != 0) return false;
  const int components = jpeg->num_components;
  jpeg->out_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_start_decompress(jpeg);
  check_scans(jpeg, *progress);
  const std::size_t stride = std::size_t{jpeg->output_width} * jpeg->output_components;
  while (jpeg->output_scanline < jpeg->output_height) {
    if (jpeg->output_scanline % kBand == 0 && is_interrupted()) {
      stop(reinterpret_cast<j_common_ptr>(jpeg), "it was given up");
    }
    JSAMPROW row = pixels + jpeg->output_scanline * stride;
    jpeg_read_scanlines(jpeg, &row, 1);
  }
  jpeg_finish_decompress(jpeg);
  return true;
}

bool read_code(jpeg_decompress_struct* jpeg, ErrorManager* manager, Progress* progress) {
  if (setjmp(manager->jump) != 0) return false;
  progress->components = 0;
  jpeg_read_coefficients(jpeg);
  check_scans(jpeg, *progress);
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
    progress_.base.progress_monitor = on_progress;
    // Fails only where the header that this was compiled against is another libjpeg's.
    if (setjmp(manager_.jump) != 0) fail();
    jpeg_create_decompress(&jpeg_);
    jpeg_.progress = &progress_.base;
  }
  ~Reader() { jpeg_destroy_decompress(&jpeg_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  void header(Bytes bytes) {
    if (!read_header(&jpeg_, &manager_, bytes)) fail();
    check_dimensions(width(), height(), name_);
    if (components() != 1 && components() != 3 && components() != 4) {
      throw Error(name_ + ": a JPEG image must have 1, 3 or 4 components, got " +
                  std::to_string(components()));
    }
    if (jpeg_.data_precision != 8) {
      throw Error(name_ + ": a JPEG image must have 8 bits, got " +
                  std::to_string(jpeg_.data_precision));
    }
  }
  std::int64_t width() const { return jpeg_.image_width; }
  std::int64_t height() const { return jpeg_.image_height; }
  int components() const { return jpeg_.num_components; }

  std::vector<std::uint8_t> pixels() {
    // Interleaved, in planes, and the coefficients of a file of several scans; whole blocks at the
    // edges.
    const auto area = static_cast<std::size_t>((width() + 32) * (height() + 32));
    const std::size_t stored = area * static_cast<std::size_t>(components());
    const bool several = jpeg_has_multiple_scans(&jpeg_) != 0;
    admit_image(stored * (several ? 4 : 2), stored);
    std::vector<std::uint8_t> pixels(width() * height() * components());
    if (!read_rows(&jpeg_, &manager_, &progress_, pixels.data())) fail();
    return pixels;
  }

  void check() {
    if (!read_code(&jpeg_, &manager_, &progress_)) fail();
  }

 private:
  [[noreturn]] void fail() const {
    check_interrupt();
    throw Error(name_ + ": damaged JPEG image: " + manager_.message);
  }

  jpeg_decompress_struct jpeg_{};
  ErrorManager manager_{};
  Progress progress_{};
  const std::string& name_;
};

// The orientation in the segments APP1 before the image; several of EXIF are one text, of which the
// beginning is enough.
int orientation_of(Bytes bytes) {
  constexpr std::string_view kMark("Exif\0\0", 6);
  constexpr std::size_t kLongestExif = std::size_t{64} << 10;
  std::vector<std::uint8_t> exif;
  std::size_t at = 2;
  while (at + 4 <= bytes.size() && bytes[at] == 0xFF && exif.size() < kLongestExif) {
    const unsigned marker = bytes[at + 1];
    if (marker == 0xFF) {  // a fill byte
      ++at;
      continue;
    }
    if (marker == 0xDA || marker == 0xD9) break;  // the image, or the end
    const std::size_t length = bytes[at + 2] * std::size_t{256} + bytes[at + 3];
    if (length < 2 || length > bytes.size() - at - 2) break;
    const Bytes segment = bytes.subspan(at + 4, length - 2);
    if (marker == 0xE1 && segment.size() >= kMark.size() &&
        std::memcmp(segment.data(), kMark.data(), kMark.size()) == 0) {
      exif.insert(exif.end(), segment.begin() + kMark.size(), segment.end());
    }
    at += 2 + length;
  }
  return exif_orientation(exif);
}

}  // namespace

Decoded decode_jpeg(Bytes bytes, const std::string& name) {
  Reader reader(name);
  reader.header(bytes);
  Decoded decoded;
  decoded.orientation = orientation_of(bytes);
  std::vector<std::uint8_t> pixels = reader.pixels();
  std::int64_t channels = reader.components();
  if (channels == 4) {  // inverted, as Adobe's programs write four inks and everybody reads them
    channels = 3;
    for (std::size_t i = 0; i < pixels.size() / 4; ++i) {
      std::uint8_t inks[4];
      for (int c = 0; c < 4; ++c) inks[c] = static_cast<std::uint8_t>(255 - pixels[4 * i + c]);
      cmyk_to_rgb(inks, pixels.data() + 3 * i);
    }
  }
  decoded.image = from_interleaved(pixels.data(), channels, reader.height(), reader.width());
  return decoded;
}

void check_jpeg(Bytes bytes, const std::string& name) {
  Reader reader(name);
  reader.header(bytes);
  reader.check();
}

#else

Decoded decode_jpeg(Bytes, const std::string& name) {
  fail_without_library(name, "JPEG", "libjpeg", "libjpeg-dev");
}

void check_jpeg(Bytes, const std::string& name) {
  fail_without_library(name, "JPEG", "libjpeg", "libjpeg-dev");
}

#endif

}  // namespace labelassemble
