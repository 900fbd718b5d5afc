#ifdef LABELASSEMBLE_WITH_TIFF
#include "tiff_source.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>

namespace labelassemble {
namespace {

tmsize_t read_bytes(thandle_t handle, void* into, tmsize_t count) {
  auto* source = static_cast<TiffSource*>(handle);
  if (source->at >= source->bytes.size() || count <= 0) return 0;
  const auto left = static_cast<tmsize_t>(source->bytes.size() - source->at);
  const tmsize_t size = std::min(count, left);
  std::memcpy(into, source->bytes.data() + source->at, static_cast<std::size_t>(size));
  source->at += static_cast<std::uint64_t>(size);
  return size;
}

tmsize_t write_nothing(thandle_t, void*, tmsize_t) { return 0; }

toff_t seek(thandle_t handle, toff_t offset, int whence) {
  auto* source = static_cast<TiffSource*>(handle);
  const std::uint64_t from = whence == SEEK_CUR   ? source->at
                             : whence == SEEK_END ? source->bytes.size()
                                                  : 0;
  source->at = from + offset;
  return source->at;
}

int close_nothing(thandle_t) { return 0; }

toff_t size_of(thandle_t handle) { return static_cast<TiffSource*>(handle)->bytes.size(); }

}  // namespace

TIFF* open_tiff(TiffSource& source) {
  // r: read; m: not mapped into memory; c: one strip is not taken for many, whose list would take
  // what the file's sides say.
  return TIFFClientOpen("image", "rmc", &source, read_bytes, write_nothing, seek, close_nothing,
                        size_of, nullptr, nullptr);
}

}  // namespace labelassemble

#endif
