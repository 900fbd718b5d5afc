// Files of NIfTI, compressed or not, on disk and in memory, by zlib.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <new>
#include <span>
#include <string>
#include <utility>

#include "labelassemble/error.h"

namespace labelassemble {

class GzipFile {
 public:
  GzipFile(const std::filesystem::path& path, const char* mode) : name_(path.string()) {
    errno = 0;
    file_ = gzopen(path.c_str(), mode);
    if (file_ == nullptr) {
      throw Error(name_ + ": cannot be opened (" +
                  (errno != 0 ? std::strerror(errno) : "no memory") + ")");
    }
    gzbuffer(file_, 1U << 17);
  }
  ~GzipFile() {
    if (file_ != nullptr) gzclose(file_);
  }
  GzipFile(const GzipFile&) = delete;
  GzipFile& operator=(const GzipFile&) = delete;

  // Up to `size` bytes, fewer at the end of the file.
  std::size_t read(void* bytes, std::size_t size) {
    errno = 0;
    const int got = gzread(file_, bytes, static_cast<unsigned>(size));
    int code = Z_OK;
    const char* reason = gzerror(file_, &code);
    if (got < 0 || code == Z_DATA_ERROR || code == Z_BUF_ERROR) {
      const bool system = code == Z_ERRNO && errno != 0;
      throw Error(name_ + (system ? ": cannot be read (" : ": damaged NIfTI file: gzip says '") +
                  (system ? std::strerror(errno) : reason_of(reason)) + (system ? ")" : "'"));
    }
    return static_cast<std::size_t>(got);
  }

  void write(const void* bytes, std::size_t size) {
    errno = 0;
    if (size > 0 && gzwrite(file_, bytes, static_cast<unsigned>(size)) == 0) cannot_write();
  }

  // Says what went wrong when the last bytes were written.
  void close() {
    errno = 0;
    if (gzclose(std::exchange(file_, nullptr)) != Z_OK) cannot_write();
  }

  bool compressed() { return gzdirect(file_) == 0; }

 private:
  // zlib puts the file's name before it.
  std::string reason_of(const char* reason) const {
    const std::string text = reason == nullptr ? "" : reason;
    return text.starts_with(name_ + ": ") ? text.substr(name_.size() + 2) : text;
  }

  [[noreturn]] void cannot_write() const {
    throw Error(name_ + ": cannot be written (" +
                (errno != 0 ? std::strerror(errno) : "gzip failed") + ")");
  }

  std::string name_;
  gzFile file_ = nullptr;
};

// What GzipFile reads of a file, of its bytes in memory.
class GzipBytes {
 public:
  GzipBytes(std::span<const std::uint8_t> file, std::string name)
      : name_(std::move(name)), rest_(file), compressed_(begins_member(file)) {
    if (!compressed_) return;
    if (file.size() > std::numeric_limits<uInt>::max()) {
      throw Error(name_ + ": a compressed file in memory must have less than 4 GiB");
    }
    stream_.next_in = const_cast<Bytef*>(file.data());  // zlib reads it only
    stream_.avail_in = static_cast<uInt>(file.size());
    if (inflateInit2(&stream_, 15 + 16) != Z_OK) throw std::bad_alloc();
  }
  ~GzipBytes() {
    if (compressed_) inflateEnd(&stream_);
  }
  GzipBytes(const GzipBytes&) = delete;
  GzipBytes& operator=(const GzipBytes&) = delete;

  // Up to `size` bytes, fewer at the end of the file.
  std::size_t read(void* bytes, std::size_t size) {
    if (!compressed_) {
      const std::size_t taken = std::min(size, rest_.size());
      if (taken > 0) std::memcpy(bytes, rest_.data(), taken);
      rest_ = rest_.subspan(taken);
      return taken;
    }
    stream_.next_out = static_cast<Bytef*>(bytes);
    stream_.avail_out = static_cast<uInt>(size);
    while (stream_.avail_out > 0 && !ended_) {
      const int code = inflate(&stream_, Z_NO_FLUSH);
      if (code == Z_STREAM_END) {
        // As gzip has it, a file may be several that follow one another.
        ended_ = !begins_member({stream_.next_in, stream_.avail_in});
        if (!ended_) inflateReset(&stream_);
      } else if (code != Z_OK) {
        const char* reason = stream_.msg != nullptr ? stream_.msg : "unexpected end of file";
        throw Error(name_ + ": damaged NIfTI file: gzip says '" + reason + "'");
      }
    }
    return size - stream_.avail_out;
  }

  bool compressed() const { return compressed_; }

 private:
  static bool begins_member(std::span<const std::uint8_t> bytes) {
    return bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
  }

  std::string name_;
  std::span<const std::uint8_t> rest_;
  bool compressed_;
  bool ended_ = false;
  z_stream stream_{};
};

// A compressed file that is written to memory, of at most `most` bytes.
class GzipString {
 public:
  GzipString(std::size_t most, int effort) {
    file_.reserve(most);
    if (deflateInit2(&stream_, effort, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
      throw std::bad_alloc();
    }
  }
  ~GzipString() { deflateEnd(&stream_); }
  GzipString(const GzipString&) = delete;
  GzipString& operator=(const GzipString&) = delete;

  void write(const void* bytes, std::size_t size) {
    stream_.next_in = const_cast<Bytef*>(static_cast<const Bytef*>(bytes));  // zlib reads it only
    stream_.avail_in = static_cast<uInt>(size);
    while (stream_.avail_in > 0) step(Z_NO_FLUSH);
  }

  std::string finish() {
    while (step(Z_FINISH) != Z_STREAM_END) {
    }
    return std::move(file_);
  }

 private:
  int step(int flush) {
    std::array<Bytef, 1U << 16> part;
    stream_.next_out = part.data();
    stream_.avail_out = static_cast<uInt>(part.size());
    const int code = deflate(&stream_, flush);
    file_.append(reinterpret_cast<const char*>(part.data()), part.size() - stream_.avail_out);
    return code;
  }

  std::string file_;
  z_stream stream_{};
};

}  // namespace labelassemble
