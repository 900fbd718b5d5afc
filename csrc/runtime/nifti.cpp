#include "labelassemble/nifti.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <system_error>

#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"
#include "nifti_header.h"

#ifdef LABELASSEMBLE_WITH_NIFTI
#include <unistd.h>
#include <zlib.h>

#include "gzip_streams.h"
#else
#include "decoders.h"
#endif

namespace labelassemble {

bool is_nifti_name(const std::filesystem::path& path) {
  std::string name = path.filename().string();
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name.ends_with(".nii") || name.ends_with(".nii.gz");
}

#ifndef LABELASSEMBLE_WITH_NIFTI

bool reads_nifti() noexcept { return false; }

Volume read_nifti(const std::filesystem::path& path) {
  fail_without_library(path.string(), "a NIfTI file", "zlib", "zlib1g-dev");
}

void write_nifti(const std::filesystem::path& path, const Volume&, std::span<const std::uint8_t>) {
  fail_without_library(path.string(), "a NIfTI file", "zlib", "zlib1g-dev");
}

void write_nifti(const std::filesystem::path& path, const Volume&, std::span<const float>,
                 std::int64_t) {
  fail_without_library(path.string(), "a NIfTI file", "zlib", "zlib1g-dev");
}

Volume read_nifti(std::span<const std::uint8_t>, const std::string& name) {
  fail_without_library(name, "a NIfTI file", "zlib", "zlib1g-dev");
}

std::string encode_nifti(const Volume&, std::span<const std::uint8_t>) {
  fail_without_library("a mask", "a NIfTI file", "zlib", "zlib1g-dev");
}

std::string encode_nifti(const Volume&, std::int64_t,
                         const std::function<std::vector<float>(std::int64_t)>&) {
  fail_without_library("a map", "a NIfTI file", "zlib", "zlib1g-dev");
}

std::size_t encode_nifti_bytes(std::size_t volume, std::size_t volumes) noexcept {
  return volume * volumes;
}

#else

bool reads_nifti() noexcept { return true; }

namespace {

// zlib inflates no byte to more than this.
constexpr std::uintmax_t kLargestRatio = 1040;
constexpr std::size_t kBlockBytes = std::size_t{16} << 20;
// As nibabel: probabilities become no smaller by more effort.
constexpr int kEffort = 1;
// The file's fastest axis is the memory's slowest: this many slices at once fill whole cache lines.
constexpr std::int64_t kBlockSlices = 16;

// Slices k0 to k1, of each the rows j0 to j1, as they follow one another in the file.
struct Block {
  std::int64_t k0, k1, j0, j1;
  std::int64_t rows() const { return (k1 - k0) * (j1 - j0); }
};

// Calls `f` for the blocks of a volume in the file's order.
template <typename F>
void for_each_block(const std::array<std::int64_t, 3>& shape, std::size_t value_bytes, F f) {
  const std::int64_t row_bytes = shape[0] * static_cast<std::int64_t>(value_bytes);
  const std::int64_t most = std::max<std::int64_t>(1, kBlockBytes / row_bytes);  // rows
  const std::int64_t slices = std::min(most / shape[1], kBlockSlices);
  if (slices >= 1) {
    for (std::int64_t k = 0; k < shape[2]; k += slices)
      f(Block{k, std::min(k + slices, shape[2]), 0, shape[1]});
    return;
  }
  for (std::int64_t k = 0; k < shape[2]; ++k) {
    for (std::int64_t j = 0; j < shape[1]; j += most)
      f(Block{k, k + 1, j, std::min(j + most, shape[1])});
  }
}

// Calls `f(in the file's order, in memory's order, step of memory)` for every row of a block.
template <typename F>
void for_each_row(const Block& block, const std::array<std::int64_t, 3>& shape, F f) {
  for (std::int64_t j = block.j0; j < block.j1; ++j) {
    for (std::int64_t k = block.k0; k < block.k1; ++k) {
      const std::int64_t row = (k - block.k0) * (block.j1 - block.j0) + (j - block.j0);
      f(row * shape[0], j * shape[2] + k, shape[1] * shape[2]);
    }
  }
}

// Of a .nii.gz of so many bytes of values.
std::size_t most_bytes(std::size_t values) {
  constexpr std::size_t kAround = 4 + 18;  // no extensions, and gzip's own header and trailer
  return compressBound(kNiftiHeaderBytes + values) + kAround;
}

std::uintmax_t size_of(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw Error(path.string() + ": no such volume");
  if (!std::filesystem::is_regular_file(status)) {
    throw Error(path.string() + ": a volume must be a regular file");
  }
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) throw Error(path.string() + ": cannot be read (" + error.message() + ")");
  return size;
}

[[noreturn]] void truncated(const std::string& name, std::uintmax_t needed, const char* got) {
  throw Error(name + ": damaged NIfTI file: its header tells of " + std::to_string(needed) +
              " bytes of values, and " + got);
}

template <typename T>
T value_at(const std::uint8_t* bytes, bool swapped) {
  std::uint8_t raw[sizeof(T)];
  std::memcpy(raw, bytes, sizeof(T));
  if (swapped) std::reverse(raw, raw + sizeof(T));
  T value;
  std::memcpy(&value, raw, sizeof(T));
  return value;
}

template <typename T>
void convert(const std::vector<std::uint8_t>& raw, const Block& block, const NiftiHeader& header,
             float* values) {
  for_each_row(block, header.shape, [&](std::int64_t from, std::int64_t to, std::int64_t step) {
    const std::uint8_t* bytes = raw.data() + from * static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < header.shape[0]; ++i, bytes += sizeof(T), to += step) {
      const T value = value_at<T>(bytes, header.swapped);
      values[to] =
          header.scaled
              ? static_cast<float>(static_cast<double>(value) * header.slope + header.inter)
              : static_cast<float>(value);
    }
  });
}

void convert_block(const std::vector<std::uint8_t>& raw, const Block& block,
                   const NiftiHeader& header, float* values) {
  switch (header.type) {
    case NiftiType::kUint8:
      return convert<std::uint8_t>(raw, block, header, values);
    case NiftiType::kInt8:
      return convert<std::int8_t>(raw, block, header, values);
    case NiftiType::kInt16:
      return convert<std::int16_t>(raw, block, header, values);
    case NiftiType::kUint16:
      return convert<std::uint16_t>(raw, block, header, values);
    case NiftiType::kInt32:
      return convert<std::int32_t>(raw, block, header, values);
    case NiftiType::kUint32:
      return convert<std::uint32_t>(raw, block, header, values);
    case NiftiType::kInt64:
      return convert<std::int64_t>(raw, block, header, values);
    case NiftiType::kUint64:
      return convert<std::uint64_t>(raw, block, header, values);
    case NiftiType::kFloat32:
      return convert<float>(raw, block, header, values);
    case NiftiType::kFloat64:
      return convert<double>(raw, block, header, values);
  }
}

template <typename File>
void skip_to(File& file, std::int64_t offset, const std::string& name) {
  std::array<std::uint8_t, 4096> between{};  // the offset may be any that a header claims
  for (auto left = static_cast<std::size_t>(offset) - kNiftiHeaderBytes; left > 0;) {
    const std::size_t some = std::min(left, between.size());
    if (file.read(between.data(), some) < some) {
      throw Error(name + ": damaged NIfTI file: it ends before its values");
    }
    left -= some;
  }
}

// Header and values of `volumes` volumes, of which `source(volume)` gives the values in memory.
template <typename T, typename File, typename Source>
void write_volumes(File& file, const Volume& like, NiftiType type, std::int64_t volumes,
                   Source source) {
  std::vector<std::uint8_t> header = make_nifti_header(like, type, volumes);
  header.resize(header.size() + 4);  // no extensions
  file.write(header.data(), header.size());
  std::vector<T> rows;
  for (std::int64_t volume = 0; volume < volumes; ++volume) {
    const auto& values = source(volume);
    for_each_block(like.shape, sizeof(T), [&](const Block& block) {
      rows.resize(block.rows() * like.shape[0]);
      for_each_row(block, like.shape, [&](std::int64_t to, std::int64_t from, std::int64_t step) {
        for (std::int64_t i = 0; i < like.shape[0]; ++i, from += step) rows[to + i] = values[from];
      });
      file.write(rows.data(), rows.size() * sizeof(T));
      check_interrupt();
    });
  }
}

// The file appears whole or not at all.
template <typename T>
void write_file(const std::filesystem::path& path, const Volume& like, NiftiType type,
                std::int64_t volumes, std::span<const T> values) {
  const std::filesystem::path temporary =
      path.string() + ".tmp" + std::to_string(static_cast<long>(getpid()));
  try {
    const bool gzip = path.extension() == ".gz" || path.extension() == ".GZ";
    static_assert(kEffort == 1);
    GzipFile file(temporary, gzip ? "wb1" : "wbT");
    write_volumes<T>(file, like, type, volumes, [&](std::int64_t volume) {
      return values.subspan(volume * like.voxels(), like.voxels());
    });
    file.close();
    std::filesystem::rename(temporary, path);
  } catch (const Error& error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    const std::string text = error.what();
    const std::string half = temporary.string();
    throw Error(text.starts_with(half) ? path.string() + text.substr(half.size()) : text);
  } catch (const std::filesystem::filesystem_error& error) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw Error(path.string() + ": cannot be written (" + error.code().message() + ")");
  }
}

void check_length(const Volume& like, std::size_t values, std::int64_t volumes) {
  for (const std::int64_t size : like.shape) {
    if (size < 1 || size > 32767) {
      throw Error("a NIfTI file has 1 to 32767 voxels along an axis, got " + std::to_string(size));
    }
  }
  if (volumes < 1 || volumes > 32767 ||
      values != static_cast<std::size_t>(like.voxels() * volumes)) {
    throw Error("values must be those of " + std::to_string(volumes) + " volumes of " +
                std::to_string(like.voxels()) + " voxels, got " + std::to_string(values));
  }
}

// A file of `size` bytes, read by GzipFile or GzipBytes.
template <typename File>
Volume read_volume(File& file, std::uintmax_t size, const std::string& name) {
  Volume volume;
  auto& bytes = volume.header.emplace();
  const std::size_t got = file.read(bytes.data(), bytes.size());
  const NiftiHeader header = parse_nifti_header({bytes.data(), got}, name);
  volume.shape = header.shape;
  volume.affine = header.affine;
  const auto voxels = static_cast<std::size_t>(volume.voxels());
  const std::uintmax_t needed = std::uintmax_t{voxels} * header.value_bytes;
  const std::uintmax_t all = needed + static_cast<std::uintmax_t>(header.offset);
  if (!file.compressed() && size < all) {
    truncated(name, needed, ("the file has " + std::to_string(size) + " in all").c_str());
  }
  if (file.compressed() && all / kLargestRatio > size) {
    truncated(name, needed, ("no file of " + std::to_string(size) + " bytes holds them").c_str());
  }
  admit_image(voxels * sizeof(float) + std::min<std::size_t>(needed, kBlockBytes), needed);
  skip_to(file, header.offset, name);
  volume.values.resize(voxels);
  std::vector<std::uint8_t> raw;
  for_each_block(header.shape, header.value_bytes, [&](const Block& block) {
    check_interrupt();
    raw.resize(static_cast<std::size_t>(block.rows() * header.shape[0]) * header.value_bytes);
    if (file.read(raw.data(), raw.size()) < raw.size()) truncated(name, needed, "fewer follow");
    convert_block(raw, block, header, volume.values.data());
  });
  // What ends the stream holds its check sum; more than that is not looked at.
  std::uint8_t rest[4096];
  file.read(rest, sizeof rest);
  return volume;
}

}  // namespace

Volume read_nifti(const std::filesystem::path& path) {
  const std::uintmax_t size = size_of(path);
  GzipFile file(path, "rb");
  return read_volume(file, size, path.string());
}

Volume read_nifti(std::span<const std::uint8_t> file, const std::string& name) {
  GzipBytes bytes(file, name);
  return read_volume(bytes, file.size(), name);
}

void write_nifti(const std::filesystem::path& path, const Volume& like,
                 std::span<const std::uint8_t> mask) {
  check_length(like, mask.size(), 1);
  write_file<std::uint8_t>(path, like, NiftiType::kUint8, 1, mask);
}

void write_nifti(const std::filesystem::path& path, const Volume& like,
                 std::span<const float> values, std::int64_t volumes) {
  check_length(like, values.size(), volumes);
  write_file<float>(path, like, NiftiType::kFloat32, volumes, values);
}

std::size_t encode_nifti_bytes(std::size_t volume, std::size_t volumes) noexcept {
  constexpr std::size_t kState = std::size_t{512} << 10;  // of zlib, and what goes in and out of it
  return most_bytes(volume * volumes) + std::min(volume, kBlockBytes) + kState;
}

std::string encode_nifti(const Volume& like, std::span<const std::uint8_t> mask) {
  check_length(like, mask.size(), 1);
  GzipString file(most_bytes(mask.size()), kEffort);
  write_volumes<std::uint8_t>(file, like, NiftiType::kUint8, 1, [&](std::int64_t) { return mask; });
  return file.finish();
}

std::string encode_nifti(const Volume& like, std::int64_t volumes,
                         const std::function<std::vector<float>(std::int64_t)>& values) {
  const auto voxels = static_cast<std::size_t>(like.voxels() * volumes);
  check_length(like, voxels, volumes);
  GzipString file(most_bytes(voxels * sizeof(float)), kEffort);
  write_volumes<float>(file, like, NiftiType::kFloat32, volumes, values);
  return file.finish();
}

#endif

}  // namespace labelassemble
