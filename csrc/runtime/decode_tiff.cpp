// TIFF through libtiff: the first image of the file, grey, palette, RGB or CMYK, of whole numbers.
#include "decoders.h"
#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"

#ifdef LABELASSEMBLE_WITH_TIFF
#include <tiffio.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>

#include "tiff_directory.h"
#include "tiff_source.h"
#endif

namespace labelassemble {

#ifdef LABELASSEMBLE_WITH_TIFF
namespace {

constexpr int kMaxSamples = 5;  // four inks and alpha

// Of which libtiff decodes a part of a strip: others it would decode from its start, or not at all.
constexpr std::array<std::uint16_t, 7> kRowByRow{
    COMPRESSION_NONE,    COMPRESSION_LZW,  COMPRESSION_PACKBITS, COMPRESSION_ADOBE_DEFLATE,
    COMPRESSION_DEFLATE, COMPRESSION_LZMA, COMPRESSION_ZSTD};
constexpr std::int64_t kRowsAtOnce = 16;  // between two looks at the clock

// libtiff's handlers are of the process: each thread keeps the first sentence of the file it reads.
thread_local std::string problem;

void keep(const char* format, std::va_list values) {
  if (!problem.empty()) return;
  char text[256];
  std::vsnprintf(text, sizeof text, format, values);
  problem = text;
  std::replace(problem.begin(), problem.end(), '\n', ' ');
}

void on_error(const char*, const char* format, std::va_list values) { keep(format, values); }

// What the JPEG code within a TIFF file lacks is a warning; others are harmless and frequent.
void on_warning(const char* module, const char* format, std::va_list values) {
  if (module != nullptr && std::strcmp(module, "JPEGLib") == 0) keep(format, values);
}

struct CloseTiff {
  void operator()(TIFF* tiff) const { TIFFClose(tiff); }
};

// In place, ITU-R BT.601 of full range, as in JPEG.
void ycbcr_to_rgb(std::uint8_t* values) {
  const double y = values[0];
  const double blue = values[1] - 128.0;
  const double red = values[2] - 128.0;
  const double rgb[] = {y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue};
  for (int c = 0; c < 3; ++c) {
    values[c] = static_cast<std::uint8_t>(std::clamp(std::lround(rgb[c]), 0L, 255L));
  }
}

enum class Alpha { kNone, kStraight, kPremultiplied };

class Reader {
 public:
  Reader(Bytes bytes, const std::string& name) : source_{bytes}, name_(name) {
    static std::once_flag once;
    std::call_once(once, [] {
      TIFFSetErrorHandler(on_error);
      TIFFSetWarningHandler(on_warning);
    });
    problem.clear();
    check_tiff_directory(bytes, name);
    tiff_.reset(open_tiff(source_));
    if (!tiff_) damaged();
    problem.clear();  // entries of the directory that libtiff passes over
  }

  Decoded decode() {
    read_header();
    read_samples();
    if (!problem.empty()) damaged();
    Decoded decoded;
    decoded.orientation = field<std::uint16_t>(TIFFTAG_ORIENTATION, 1);
    if (decoded.orientation < 1 || decoded.orientation > 8) decoded.orientation = 1;
    if (photometric_ <= PHOTOMETRIC_MINISBLACK && bits_ > 8) {
      if (alpha_ != Alpha::kNone) refuse("no alpha beside grey of more than 8 bits", "alpha");
      decoded.image = {1, height_, width_, {}};
      decoded.bits = bits_ == 12 ? 12 : 16;
      decoded.white_is_zero = photometric_ == PHOTOMETRIC_MINISWHITE;
      decoded.wide.resize(samples_.size() / samples_a_pixel_);
      for (std::size_t i = 0; i < decoded.wide.size(); ++i) {
        decoded.wide[i] = grey_of(samples_[i * samples_a_pixel_]);
      }
      return decoded;
    }
    decoded.image = colours();
    return decoded;
  }

 private:
  template <typename T>
  T field(std::uint32_t tag, T fallback) const {
    T value = fallback;
    return TIFFGetFieldDefaulted(tiff_.get(), tag, &value) != 0 ? value : fallback;
  }

  void read_header() {
    width_ = field<std::uint32_t>(TIFFTAG_IMAGEWIDTH, 0);
    height_ = field<std::uint32_t>(TIFFTAG_IMAGELENGTH, 0);
    check_dimensions(width_, height_, name_);
    bits_ = field<std::uint16_t>(TIFFTAG_BITSPERSAMPLE, 1);
    samples_a_pixel_ = field<std::uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1);
    separate_ =
        field<std::uint16_t>(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE;
    const auto format = field<std::uint16_t>(TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
    signed_ = format == SAMPLEFORMAT_INT;
    if (format != SAMPLEFORMAT_UINT && format != SAMPLEFORMAT_INT && format != SAMPLEFORMAT_VOID) {
      refuse("whole numbers of 8 or 16 bits", "floating point");
    }
    if (TIFFGetField(tiff_.get(), TIFFTAG_PHOTOMETRIC, &photometric_) == 0) {
      photometric_ = samples_a_pixel_ >= 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK;
    }
    compression_ = field<std::uint16_t>(TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    if (TIFFIsCODECConfigured(compression_) == 0) {
      refuse("a compression that libtiff reads here", "number " + std::to_string(compression_));
    }
    row_by_row_ = TIFFIsTiled(tiff_.get()) == 0 &&
                  std::find(kRowByRow.begin(), kRowByRow.end(), compression_) != kRowByRow.end();
    if (photometric_ == PHOTOMETRIC_YCBCR) {
      std::uint16_t across = 2;
      std::uint16_t down = 2;
      TIFFGetFieldDefaulted(tiff_.get(), TIFFTAG_YCBCRSUBSAMPLING, &across, &down);
      if (compression_ == COMPRESSION_JPEG) {
        TIFFSetField(tiff_.get(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
      } else if (across == 1 && down == 1) {
        ycbcr_ = true;
      } else {
        refuse("YCbCr of full size, or in JPEG",
               "one of " + std::to_string(across) + " x " + std::to_string(down));
      }
      photometric_ = PHOTOMETRIC_RGB;
    }
    read_layout();
  }

  // How many of a pixel's samples are colours, and what the others are.
  void read_layout() {
    switch (photometric_) {
      case PHOTOMETRIC_MINISWHITE:
      case PHOTOMETRIC_MINISBLACK:
      case PHOTOMETRIC_PALETTE:
        colours_ = 1;
        break;
      case PHOTOMETRIC_RGB:
        colours_ = 3;
        break;
      case PHOTOMETRIC_SEPARATED:
        colours_ = 4;
        break;
      default:
        refuse("grey, a palette, RGB, CMYK or JPEG's YCbCr",
               "photometric interpretation " + std::to_string(photometric_));
    }
    const int extra = samples_a_pixel_ - colours_;
    if (extra < 0 || samples_a_pixel_ > kMaxSamples) {
      refuse("as many samples as its colours and alpha", std::to_string(samples_a_pixel_));
    }
    const bool grey = photometric_ <= PHOTOMETRIC_MINISBLACK;
    const bool known = bits_ == 8 || bits_ == 16 || (bits_ == 12 && grey) ||
                       (bits_ == 32 && grey) ||
                       ((bits_ == 1 || bits_ == 2 || bits_ == 4) && colours_ == 1);
    if (!known || (signed_ && (!grey || bits_ < 16))) {
      refuse("whole numbers of 8 or 16 bits", (signed_ ? "signed " : "") + std::to_string(bits_) +
                                                  " bits of " + std::to_string(colours_) +
                                                  " colours");
    }
    if (extra == 0) return;
    std::uint16_t count = 0;
    const std::uint16_t* kinds = nullptr;
    TIFFGetFieldDefaulted(tiff_.get(), TIFFTAG_EXTRASAMPLES, &count, &kinds);
    if (extra > 1) refuse("at most one sample beside its colours", std::to_string(extra));
    if (count == 0 || kinds == nullptr) {
      if (colours_ == 3) alpha_ = Alpha::kStraight;  // as Pillow takes what is not declared
    } else if (kinds[0] == EXTRASAMPLE_ASSOCALPHA) {
      alpha_ = Alpha::kPremultiplied;
    } else if (kinds[0] != EXTRASAMPLE_UNSPECIFIED) {
      alpha_ = Alpha::kStraight;
    }
  }

  // Reads every strip or tile into samples_, interleaved.
  void read_samples() {
    // Samples of 4 bytes; a strip or tile may be all of the image once more; colours interleaved
    // and in planes.
    const auto pixels = static_cast<std::size_t>(width_ * height_);
    const std::size_t stored =
        pixels * static_cast<std::size_t>(samples_a_pixel_ * ((bits_ + 7) / 8));
    admit_image(pixels * static_cast<std::size_t>(4 * samples_a_pixel_ + 6) + stored, stored);
    samples_.resize(pixels * static_cast<std::size_t>(samples_a_pixel_));
    const bool tiled = TIFFIsTiled(tiff_.get()) != 0;
    const std::int64_t piece_width = tiled ? field<std::uint32_t>(TIFFTAG_TILEWIDTH, 0) : width_;
    std::int64_t piece_height = tiled ? field<std::uint32_t>(TIFFTAG_TILELENGTH, 0)
                                      : field<std::uint32_t>(TIFFTAG_ROWSPERSTRIP, 0);
    if (!tiled) piece_height = std::min(piece_height, height_);
    check_dimensions(piece_width, piece_height, name_);
    const std::int64_t samples_a_piece = separate_ ? 1 : samples_a_pixel_;
    const std::size_t row_bytes =
        (static_cast<std::size_t>(piece_width) * samples_a_piece * bits_ + 7) / 8;
    const tmsize_t size = tiled ? TIFFTileSize(tiff_.get()) : TIFFStripSize(tiff_.get());
    if (size <= 0 || static_cast<std::size_t>(size) != row_bytes * piece_height) {
      damaged("its strips or tiles do not have the size that its header says");
    }
    const auto decoded = static_cast<std::uint64_t>(size);
    const auto row_pixels = static_cast<std::uint64_t>(piece_width);
    admit_image(decoded + compressed_piece(decoded) +
                    tiff_decoder_memory(compression_, row_pixels, decoded),
                decoded);
    if (row_by_row_) return read_rows(row_bytes);
    piece_.resize(static_cast<std::size_t>(size));
    std::uint32_t index = 0;
    for (int plane = 0; plane < (separate_ ? samples_a_pixel_ : 1); ++plane) {
      for (std::int64_t top = 0; top < height_; top += piece_height) {
        for (std::int64_t left = 0; left < width_; left += piece_width, ++index) {
          check_interrupt();
          const std::int64_t rows = std::min(piece_height, height_ - top);
          const tmsize_t wanted =
              tiled ? size : static_cast<tmsize_t>(row_bytes * static_cast<std::size_t>(rows));
          const tmsize_t got =
              tiled ? TIFFReadEncodedTile(tiff_.get(), index, piece_.data(), size)
                    : TIFFReadEncodedStrip(tiff_.get(), index, piece_.data(), wanted);
          if (got != wanted || !problem.empty()) damaged();
          for (std::int64_t y = 0; y < rows; ++y) {
            const std::int64_t columns = std::min(piece_width, width_ - left);
            unpack(piece_.data() + static_cast<std::size_t>(y) * row_bytes,
                   columns * samples_a_piece,
                   ((top + y) * width_ + left) * samples_a_pixel_ + plane,
                   separate_ ? samples_a_pixel_ : 1);
          }
        }
      }
    }
  }

  // What libtiff takes to read the longest strip or tile, of `size` bytes once it is decoded.
  std::size_t compressed_piece(std::uint64_t size) const {
    const std::uint32_t pieces = TIFFIsTiled(tiff_.get()) != 0 ? TIFFNumberOfTiles(tiff_.get())
                                                               : TIFFNumberOfStrips(tiff_.get());
    std::uint64_t longest = 0;
    for (std::uint32_t i = 0; i < pieces; ++i) {
      longest = std::max(longest, TIFFGetStrileByteCount(tiff_.get(), i));
    }
    return tiff_read_buffer(longest, size, source_.bytes.size());
  }

  // The same for strips, of which one may be the whole image.
  void read_rows(std::size_t row_bytes) {
    if (static_cast<std::size_t>(TIFFScanlineSize(tiff_.get())) != row_bytes) {
      damaged("its rows do not have the size that its header says");
    }
    piece_.resize(row_bytes);
    const std::int64_t samples_a_piece = separate_ ? 1 : samples_a_pixel_;
    for (int plane = 0; plane < (separate_ ? samples_a_pixel_ : 1); ++plane) {
      for (std::int64_t y = 0; y < height_; ++y) {
        if (y % kRowsAtOnce == 0) check_interrupt();
        const int got = TIFFReadScanline(tiff_.get(), piece_.data(), static_cast<std::uint32_t>(y),
                                         static_cast<std::uint16_t>(plane));
        if (got != 1 || !problem.empty()) damaged();
        unpack(piece_.data(), width_ * samples_a_piece, y * width_ * samples_a_pixel_ + plane,
               separate_ ? samples_a_pixel_ : 1);
      }
    }
  }

  void unpack(const std::uint8_t* row, std::int64_t count, std::int64_t at, std::int64_t step) {
    for (std::int64_t i = 0; i < count; ++i, at += step) {
      std::uint32_t value = 0;
      if (bits_ == 8) {
        value = row[i];
      } else if (bits_ == 16) {
        std::uint16_t number;
        std::memcpy(&number, row + 2 * i, sizeof number);
        value = number;
      } else if (bits_ == 32) {
        std::memcpy(&value, row + 4 * i, sizeof value);
      } else if (bits_ == 12) {
        const std::uint8_t* pair = row + i / 2 * 3;
        value = i % 2 == 0 ? pair[0] << 4 | pair[1] >> 4 : (pair[1] & 15) << 8 | pair[2];
      } else {
        const std::int64_t per_byte = 8 / bits_;
        value = row[i / per_byte] >> ((per_byte - 1 - i % per_byte) * bits_) & ((1U << bits_) - 1);
      }
      samples_[at] = value;
    }
  }

  std::uint16_t grey_of(std::uint32_t sample) const {
    const std::int64_t value =
        !signed_ ? sample
                 : (bits_ == 16 ? std::int64_t{static_cast<std::int16_t>(sample)}
                                : std::int64_t{static_cast<std::int32_t>(sample)});
    if (value < 0 || value > 65535) {
      throw Error(name_ + ": grey values must fit 16 bits, got " + std::to_string(value));
    }
    return static_cast<std::uint16_t>(value);
  }

  // 8 bits of a sample: the high byte of 16, as Pillow; fewer bits are spread over the range.
  std::uint8_t eight_bits(std::uint32_t sample) const {
    if (bits_ == 16) return static_cast<std::uint8_t>(sample >> 8);
    if (bits_ == 8) return static_cast<std::uint8_t>(sample);
    return static_cast<std::uint8_t>(sample * 255 / ((1U << bits_) - 1));
  }

  Image colours() {
    std::uint16_t* map[3] = {};
    const bool palette = photometric_ == PHOTOMETRIC_PALETTE;
    if (palette && (bits_ > 8 ||
                    TIFFGetField(tiff_.get(), TIFFTAG_COLORMAP, &map[0], &map[1], &map[2]) == 0)) {
      damaged("it has no palette of at most 8 bits");
    }
    const std::int64_t channels = colours_ == 1 && !palette ? 1 : 3;
    const std::size_t pixels = samples_.size() / samples_a_pixel_;
    std::vector<std::uint8_t> out(pixels * channels);
    for (std::size_t i = 0; i < pixels; ++i) {
      const std::uint32_t* in = samples_.data() + i * samples_a_pixel_;
      std::uint8_t* into = out.data() + i * channels;
      if (palette) {
        for (int c = 0; c < 3; ++c) into[c] = static_cast<std::uint8_t>(map[c][in[0]] >> 8);
      } else if (colours_ == 4) {
        std::uint8_t inks[4];
        for (int c = 0; c < 4; ++c) inks[c] = eight_bits(in[c]);
        cmyk_to_rgb(inks, into);
      } else {
        for (int c = 0; c < colours_; ++c) into[c] = eight_bits(in[c]);
        if (photometric_ == PHOTOMETRIC_MINISWHITE) into[0] = 255 - into[0];
        if (ycbcr_) ycbcr_to_rgb(into);
      }
      if (alpha_ == Alpha::kStraight) {
        const unsigned alpha = eight_bits(in[colours_]);
        for (int c = 0; c < channels; ++c) {
          into[c] = static_cast<std::uint8_t>((into[c] * alpha + 127) / 255);
        }
      }
    }
    return from_interleaved(out.data(), channels, height_, width_);
  }

  [[noreturn]] void damaged(const std::string& what = "") const {
    throw Error(name_ + ": damaged TIFF image: " +
                (!what.empty()     ? what
                 : problem.empty() ? "it is cut off or its directory is wrong"
                                   : problem));
  }

  [[noreturn]] void refuse(const std::string& rule, const std::string& came) const {
    throw Error(name_ + ": a TIFF image must have " + rule + ", got " + came);
  }

  TiffSource source_;
  const std::string& name_;
  std::unique_ptr<TIFF, CloseTiff> tiff_;
  std::int64_t width_ = 0;
  std::int64_t height_ = 0;
  int bits_ = 0;
  int samples_a_pixel_ = 0;
  int colours_ = 0;
  bool separate_ = false;
  bool signed_ = false;
  bool ycbcr_ = false;
  bool row_by_row_ = false;
  std::uint16_t compression_ = 0;
  std::uint16_t photometric_ = 0;
  Alpha alpha_ = Alpha::kNone;
  std::vector<std::uint8_t> piece_;
  std::vector<std::uint32_t> samples_;
};

}  // namespace

Decoded decode_tiff(Bytes bytes, const std::string& name) { return Reader(bytes, name).decode(); }

#else

Decoded decode_tiff(Bytes, const std::string& name) {
  fail_without_library(name, "TIFF", "libtiff", "libtiff-dev");
}

#endif

}  // namespace labelassemble
