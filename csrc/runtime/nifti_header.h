// The 348 bytes that a NIfTI-1 file begins with. Specification:
// nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "labelassemble/nifti.h"

namespace labelassemble {

inline constexpr std::size_t kNiftiHeaderBytes = 348;

// Codes of its field datatype.
enum class NiftiType : std::int16_t {
  kUint8 = 2,
  kInt16 = 4,
  kInt32 = 8,
  kFloat32 = 16,
  kFloat64 = 64,
  kInt8 = 256,
  kUint16 = 512,
  kUint32 = 768,
  kInt64 = 1024,
  kUint64 = 1280,
};

// What a header says of the values that follow it.
struct NiftiHeader {
  std::array<std::int64_t, 3> shape{};
  Affine affine{};
  NiftiType type{};
  std::size_t value_bytes = 0;  // of one value
  bool swapped = false;         // stored in the other byte order than this machine's
  bool scaled = false;
  double slope = 1.0;
  double inter = 0.0;
  std::int64_t offset = 0;  // of the first value in the file
};

// Throws Error, with `name` for the file, unless the bytes are the header of one volume of at most
// kMaxVolumeVoxels real numbers that has a place, of which two forms say the same.
NiftiHeader parse_nifti_header(std::span<const std::uint8_t> bytes, const std::string& name);

// How many axes the header of a file that `read_nifti` read has, those of size 1 among them.
int nifti_axes(std::span<const std::uint8_t> bytes);

// The header of a file of `volumes` volumes of uint8 or float32 at the place of `like`, in this
// machine's byte order.
std::vector<std::uint8_t> make_nifti_header(const Volume& like, NiftiType type,
                                            std::int64_t volumes);

}  // namespace labelassemble
