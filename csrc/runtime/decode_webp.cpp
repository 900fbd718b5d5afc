// WebP through libwebp; of an animation the first frame.
#include "decoders.h"
#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"

#ifdef LABELASSEMBLE_WITH_WEBP
#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>
#include <memory>
#include <new>
#endif

namespace labelassemble {

#ifdef LABELASSEMBLE_WITH_WEBP
namespace {

struct DeleteDemuxer {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

[[noreturn]] void damaged(const std::string& name, const std::string& what) {
  throw Error(name + ": damaged WebP image: " + what);
}

int orientation_of(const WebPDemuxer* demuxer) {
  WebPChunkIterator chunk;
  int orientation = 1;
  if (WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk) != 0) {
    Bytes exif(chunk.chunk.bytes, chunk.chunk.size);
    constexpr std::string_view kMark("Exif\0\0", 6);  // some writers put JPEG's mark before it
    if (exif.size() > kMark.size() && std::equal(kMark.begin(), kMark.end(), exif.begin())) {
      exif = exif.subspan(kMark.size());
    }
    orientation = exif_orientation(exif);
    WebPDemuxReleaseChunkIterator(&chunk);
  }
  return orientation;
}

// Writes the frame onto the canvas, `samples` values a pixel; the rest stays 0.
void draw(const WebPIterator& frame, std::int64_t width, std::int64_t samples,
          std::vector<std::uint8_t>& canvas, const std::string& name) {
  const std::int64_t stride = width * samples;
  const std::int64_t first = frame.y_offset * stride + frame.x_offset * samples;
  std::uint8_t* into = canvas.data() + first;
  const std::size_t left = canvas.size() - first;
  const std::unique_ptr<WebPIDecoder, void (*)(WebPIDecoder*)> decoder(
      WebPINewRGB(samples == 4 ? MODE_RGBA : MODE_RGB, into, left, static_cast<int>(stride)),
      WebPIDelete);
  if (!decoder) throw std::bad_alloc();
  // In slices, since libwebp asks nobody while it decodes what it has: some 64 thousand pixels each
  // at the least, and few, since the tables at the start are read again until they are whole.
  const std::size_t size = frame.fragment.size;
  const auto slices = static_cast<std::size_t>(
      std::clamp<std::int64_t>(std::int64_t{frame.width} * frame.height >> 16, 1, 16));
  VP8StatusCode status = VP8_STATUS_SUSPENDED;
  for (std::size_t slice = 1; slice <= slices && status == VP8_STATUS_SUSPENDED; ++slice) {
    check_interrupt();
    status = WebPIUpdate(decoder.get(), frame.fragment.bytes, size * slice / slices);
  }
  if (status != VP8_STATUS_OK) damaged(name, "its pixels cannot be decoded");
}

}  // namespace

Decoded decode_webp(Bytes bytes, const std::string& name) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(bytes.data(), bytes.size(), &features) != VP8_STATUS_OK) {
    damaged(name, "its header is cut off or wrong");
  }
  check_dimensions(features.width, features.height, name);
  const WebPData data{bytes.data(), bytes.size()};
  const std::unique_ptr<WebPDemuxer, DeleteDemuxer> demuxer(WebPDemux(&data));
  if (!demuxer) damaged(name, "it is cut off, or its parts do not fit together");
  const std::int64_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
  const std::int64_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
  check_dimensions(width, height, name);
  WebPIterator found;
  if (WebPDemuxGetFrame(demuxer.get(), 1, &found) == 0) damaged(name, "it has no image");
  const std::unique_ptr<WebPIterator, void (*)(WebPIterator*)> frame(&found,
                                                                     WebPDemuxReleaseIterator);
  if (found.complete == 0 || found.x_offset < 0 || found.y_offset < 0 ||
      found.x_offset + std::int64_t{found.width} > width ||
      found.y_offset + std::int64_t{found.height} > height) {
    damaged(name, "its image is cut off or lies outside its canvas");
  }
  const std::int64_t samples = features.has_alpha != 0 ? 4 : 3;
  // libwebp's own 4 bytes a pixel and the frame's, the canvas, and its planes; and of a few rows of
  // macroblocks, 125 bytes a column.
  const auto pixels = static_cast<std::size_t>(width * height);
  constexpr std::size_t kColumn = 128;
  admit_image(pixels * static_cast<std::size_t>(8 + samples + 3) +
                  kColumn * static_cast<std::size_t>(width),
              pixels * static_cast<std::size_t>(samples));
  std::vector<std::uint8_t> canvas(samples * height * width);
  draw(found, width, samples, canvas, name);
  if (samples == 4) compose_on_black(canvas, 3);
  Decoded decoded;
  decoded.orientation = orientation_of(demuxer.get());
  decoded.image = from_interleaved(canvas.data(), 3, height, width);
  return decoded;
}

#else

Decoded decode_webp(Bytes, const std::string& name) {
  fail_without_library(name, "WebP", "libwebp", "libwebp-dev");
}

#endif

}  // namespace labelassemble
