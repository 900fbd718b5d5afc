#include "compression.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <memory>

#include "error.h"

namespace labelassemble::serve {
namespace {

constexpr int kGzip = 16 + MAX_WBITS;
constexpr int kZlib = MAX_WBITS;

}  // namespace

std::vector<std::uint8_t> decompress(const std::vector<std::uint8_t>& body,
                                     const std::string& encoding, std::size_t limit,
                                     MemoryBudget::Charge& charge) {
  if (encoding != "gzip" && encoding != "deflate") {
    throw HttpError(415, "Content-Encoding must be gzip or deflate, got '" + encoding + "'");
  }
  z_stream stream{};
  if (inflateInit2(&stream, encoding == "gzip" ? kGzip : kZlib) != Z_OK) {
    throw HttpError(500, "the decompressor cannot be started");
  }
  const std::unique_ptr<z_stream, decltype(&inflateEnd)> end(&stream, inflateEnd);
  stream.next_in = const_cast<Bytef*>(body.data());
  stream.avail_in = static_cast<uInt>(std::min<std::size_t>(body.size(), UINT32_MAX));
  std::vector<std::uint8_t> out;
  std::array<std::uint8_t, 65536> part;
  for (;;) {
    stream.next_out = part.data();
    stream.avail_out = part.size();
    const int status = inflate(&stream, Z_NO_FLUSH);
    if (status == Z_BUF_ERROR) throw HttpError(400, "the " + encoding + " data ends early");
    if (status != Z_OK && status != Z_STREAM_END) {
      throw HttpError(400, "the body is not valid " + encoding + " data");
    }
    const std::size_t count = part.size() - stream.avail_out;
    if (out.size() + count > limit) {
      throw HttpError(
          413, "the body has more than " + std::to_string(limit) + " bytes when decompressed");
    }
    if (out.size() + count > kAnyRatio && (out.size() + count) / kMaxRatio > body.size()) {
      throw HttpError(413, "the body grows to more than " + std::to_string(kMaxRatio) +
                               " times its size when decompressed");
    }
    make_room(out, count, charge);
    out.insert(out.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(count));
    if (status == Z_STREAM_END) break;
  }
  if (stream.avail_in != 0) throw HttpError(400, "bytes follow the " + encoding + " data");
  return out;
}

std::string choose_encoding(const std::string& accept_encoding) {
  // A list such as "gzip, deflate;q=0.5"; the first that is known and not refused with q=0.
  std::size_t start = 0;
  while (start <= accept_encoding.size()) {
    const std::size_t end = std::min(accept_encoding.find(',', start), accept_encoding.size());
    std::string item = accept_encoding.substr(start, end - start);
    start = end + 1;
    std::erase(item, ' ');
    const std::string name = item.substr(0, item.find(';'));
    if (item.ends_with(";q=0") || item.ends_with(";q=0.0")) continue;
    if (name == "gzip" || name == "deflate") return name;
  }
  return "";
}

std::string compress(const std::string& body, const std::string& encoding) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, encoding == "gzip" ? kGzip : kZlib, 8,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    throw HttpError(500, "the compressor cannot be started");
  }
  const std::unique_ptr<z_stream, decltype(&deflateEnd)> end(&stream, deflateEnd);
  std::string out(deflateBound(&stream, body.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
  stream.avail_in = static_cast<uInt>(body.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END)
    throw HttpError(500, "the answer cannot be compressed");
  out.resize(out.size() - stream.avail_out);
  return out;
}

}  // namespace labelassemble::serve
