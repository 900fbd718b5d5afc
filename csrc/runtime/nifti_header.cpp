#include "nifti_header.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "labelassemble/error.h"
#include "sides.h"

namespace labelassemble {
namespace {

// Where the fields lie.
constexpr std::size_t kSize = 0;
constexpr std::size_t kDim = 40;
constexpr std::size_t kDatatype = 70;
constexpr std::size_t kBitpix = 72;
constexpr std::size_t kPixdim = 76;
constexpr std::size_t kVoxOffset = 108;
constexpr std::size_t kSlope = 112;
constexpr std::size_t kInter = 116;
constexpr std::size_t kUnits = 123;
constexpr std::size_t kQformCode = 252;
constexpr std::size_t kSformCode = 254;
constexpr std::size_t kQuaternion = 256;
constexpr std::size_t kQoffset = 268;
constexpr std::size_t kSrow = 280;
constexpr std::size_t kMagic = 344;

constexpr std::int64_t kFirstValue = 352;  // of a file that holds header and values
constexpr std::int16_t kScanner = 1;       // of sform_code: positions of the scanner
constexpr std::int16_t kLargestCode = 5;   // of sform_code and qform_code
constexpr std::uint8_t kMetres = 1;        // of the three lowest bits of xyzt_units
constexpr std::uint8_t kMillimetres = 2;
constexpr std::uint8_t kMicrometres = 3;
constexpr std::int64_t kFarthest = 1 << 26;  // a first value beyond 64 MiB is no header's
// How far the two forms may differ, as in labelassemble/data/grid.py.
constexpr double kSameSpacing = 0.01;    // relative
constexpr double kSameDirection = 0.01;  // of a unit vector

class Fields {
 public:
  Fields(std::span<const std::uint8_t> bytes, bool swapped) : bytes_(bytes), swapped_(swapped) {}

  template <typename T>
  T get(std::size_t at, std::size_t index = 0) const {
    std::uint8_t raw[sizeof(T)];
    std::memcpy(raw, bytes_.data() + at + index * sizeof(T), sizeof(T));
    if (swapped_) std::reverse(raw, raw + sizeof(T));
    T value;
    std::memcpy(&value, raw, sizeof(T));
    return value;
  }

 private:
  std::span<const std::uint8_t> bytes_;
  bool swapped_;
};

template <typename T>
void put(std::vector<std::uint8_t>& bytes, std::size_t at, T value, std::size_t index = 0) {
  std::memcpy(bytes.data() + at + index * sizeof(T), &value, sizeof(T));
}

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
  throw Error(name + ": " + why);
}

[[noreturn]] void damaged(const std::string& name, const std::string& why) {
  refuse(name, "damaged NIfTI file: " + why);
}

bool is_swapped(std::span<const std::uint8_t> bytes, const std::string& name) {
  if (bytes.size() < kNiftiHeaderBytes) {
    refuse(name,
           "not a NIfTI-1 file: its header has 348 bytes, got " + std::to_string(bytes.size()));
  }
  for (const bool swapped : {false, true}) {
    const auto size = Fields(bytes, swapped).get<std::int32_t>(kSize);
    if (size == static_cast<std::int32_t>(kNiftiHeaderBytes)) return swapped;
    if (size == 540) refuse(name, "a NIfTI-2 file, and NIfTI-1 is read");
  }
  refuse(name, "not a NIfTI-1 file");
}

void check_magic(std::span<const std::uint8_t> bytes, const std::string& name) {
  const std::string_view magic(reinterpret_cast<const char*>(bytes.data()) + kMagic, 4);
  using namespace std::string_view_literals;
  if (magic == "n+1\0"sv) return;
  if (magic == "ni1\0"sv) {
    refuse(name,
           "a NIfTI header whose values are in another file (.hdr and .img); one file (.nii) "
           "is read");
  }
  refuse(name, "not a NIfTI-1 file (an Analyze 7.5 header, or a damaged one)");
}

std::size_t bytes_of(NiftiType type, const std::string& name) {
  switch (type) {
    case NiftiType::kUint8:
    case NiftiType::kInt8:
      return 1;
    case NiftiType::kInt16:
    case NiftiType::kUint16:
      return 2;
    case NiftiType::kInt32:
    case NiftiType::kUint32:
    case NiftiType::kFloat32:
      return 4;
    case NiftiType::kFloat64:
    case NiftiType::kInt64:
    case NiftiType::kUint64:
      return 8;
  }
  refuse(name,
         "NIfTI values must be int8 to int64, uint8 to uint64, float32 or float64, got data "
         "type " +
             std::to_string(static_cast<int>(type)));
}

std::array<std::int64_t, 3> shape_of(const Fields& fields, const std::string& name) {
  const int axes = fields.get<std::int16_t>(kDim);
  if (axes < 2 || axes > 7) {
    damaged(name, "a volume must have 2 or 3 axes, got " + std::to_string(axes));
  }
  std::array<std::int64_t, 3> shape{1, 1, 1};
  std::string text;
  bool several = false;
  for (int axis = 0; axis < axes; ++axis) {
    const std::int64_t size = fields.get<std::int16_t>(kDim, 1 + axis);
    text += (axis == 0 ? "" : " x ") + std::to_string(size);
    if (size < 1) damaged(name, "its size is " + text);
    if (axis < 3)
      shape[axis] = size;
    else
      several = several || size > 1;
  }
  if (several) refuse(name, "it must hold one volume, got " + text);
  if (shape[0] * shape[1] > kMaxVolumeVoxels / shape[2]) {
    refuse(name, "a volume must have at most " + std::to_string(kMaxVolumeVoxels) +
                     " voxels, got " + text);
  }
  return shape;
}

// As nibabel has it: a sign means nothing, and 0 is 1, which is asked for of axes of one voxel
// only.
double pixdim(const Fields& fields, int axis) {
  const double size = std::abs(fields.get<float>(kPixdim, 1 + axis));
  return size == 0.0 ? 1.0 : size;
}

// The first axis of several voxels that have no size, 1 to 3; 0 where all have one.
int axis_without_size(const Fields& fields, const std::array<std::int64_t, 3>& shape) {
  for (int axis = 0; axis < 3; ++axis) {
    const float size = fields.get<float>(kPixdim, 1 + axis);
    if (shape[axis] > 1 && (size == 0.0F || !std::isfinite(size))) return 1 + axis;
  }
  return 0;
}

int form_code(const Fields& fields, std::size_t at, const std::string& name) {
  const int code = fields.get<std::int16_t>(at);
  if (code < 0 || code > kLargestCode) {
    damaged(name, std::string("its ") + (at == kSformCode ? "sform" : "qform") + "_code is " +
                      std::to_string(code) + ", and NIfTI knows 0 to " +
                      std::to_string(kLargestCode));
  }
  return code;
}

Affine sform(const Fields& fields) {
  Affine affine{};
  for (std::size_t i = 0; i < 12; ++i) affine[i] = fields.get<float>(kSrow, i);
  affine[15] = 1.0;
  return affine;
}

// Nothing where the quaternion is longer than 1.
std::optional<Affine> qform(const Fields& fields) {
  const double b = fields.get<float>(kQuaternion, 0);
  const double c = fields.get<float>(kQuaternion, 1);
  const double d = fields.get<float>(kQuaternion, 2);
  const double rest = 1.0 - (b * b + c * c + d * d);
  constexpr double kNothing = 3.0 * std::numeric_limits<float>::epsilon();
  if (!(rest > -kNothing)) return std::nullopt;
  const double a = rest < kNothing ? 0.0 : std::sqrt(rest);
  const double turn[9] = {
      a * a + b * b - c * c - d * d, 2 * (b * c - a * d),           2 * (b * d + a * c),
      2 * (b * c + a * d),           a * a + c * c - b * b - d * d, 2 * (c * d - a * b),
      2 * (b * d - a * c),           2 * (c * d + a * b),           a * a + d * d - b * b - c * c};
  // A quaternion that is a little shorter or longer than 1 turns only.
  const double norm = a * a + b * b + c * c + d * d;
  Affine affine{};
  for (int column = 0; column < 3; ++column) {
    double size = pixdim(fields, column) / norm;
    if (column == 2 && fields.get<float>(kPixdim) == -1.0F) size = -size;
    for (int row = 0; row < 3; ++row) affine[row * 4 + column] = turn[row * 3 + column] * size;
  }
  for (int row = 0; row < 3; ++row) affine[row * 4 + 3] = fields.get<float>(kQoffset, row);
  affine[15] = 1.0;
  return affine;
}

std::string text_of(const Sides& sides) {
  std::string text;
  for (int axis = 0; axis < 3; ++axis)
    text += (sides.reversed[axis] ? "LPI" : "RAS")[sides.axis[axis]];
  return text;
}

std::string sizes_of(const std::array<double, 3>& sizes) {
  char text[96];
  std::snprintf(text, sizeof text, "%.4g x %.4g x %.4g mm", sizes[0], sizes[1], sizes[2]);
  return text;
}

// Throws where the two forms give the voxels other sizes, or turn the axes to other sides: nobody
// knows which is right. A turn by less, or another origin, changes nothing for a network.
void check_forms(const Affine& s, const Affine& q, const std::string& name) {
  const std::array<double, 3> ours = spacing_of(s), theirs = spacing_of(q);
  if (!std::isfinite(theirs[0] + theirs[1] + theirs[2])) return;  // as good as none
  bool sizes = true;
  double turned = 0.0;
  for (int axis = 0; axis < 3; ++axis) {
    sizes = sizes && std::abs(ours[axis] - theirs[axis]) <= kSameSpacing * theirs[axis];
    for (int row = 0; row < 3; ++row) {
      turned = std::max(
          turned, std::abs(s[row * 4 + axis] / ours[axis] - q[row * 4 + axis] / theirs[axis]));
    }
  }
  const std::string end = ": set the wrong one's code to 0, or write both anew";
  if (!sizes) {
    refuse(name, "its sform and its qform contradict each other, voxels of " + sizes_of(ours) +
                     " and of " + sizes_of(theirs) + end);
  }
  if (turned <= kSameDirection) return;
  const std::string one = text_of(sides_of(s)), other = text_of(sides_of(q));
  if (one != other) {
    refuse(name, "its sform and its qform contradict each other, axes to " + one + " and to " +
                     other + end);
  }
}

// Neither form: the middle is at 0 and the first axis goes to the left, as in Analyze files.
Affine from_sizes(const Fields& fields, const std::array<std::int64_t, 3>& shape) {
  Affine affine{};
  const int axes = fields.get<std::int16_t>(kDim);
  for (int axis = 0; axis < 3; ++axis) {
    const double size = (axis < axes ? pixdim(fields, axis) : 1.0) * (axis == 0 ? -1.0 : 1.0);
    affine[axis * 5] = size;
    affine[axis * 4 + 3] = -size * static_cast<double>(shape[axis] - 1) / 2.0;
  }
  affine[15] = 1.0;
  return affine;
}

void check_affine(const Affine& m, const std::string& name) {
  const double determinant = m[0] * (m[5] * m[10] - m[6] * m[9]) -
                             m[1] * (m[4] * m[10] - m[6] * m[8]) +
                             m[2] * (m[4] * m[9] - m[5] * m[8]);
  double lengths = 1.0;
  bool finite = true;
  for (int column = 0; column < 4; ++column) {
    double square = 0.0;
    for (int row = 0; row < 3; ++row) square += m[row * 4 + column] * m[row * 4 + column];
    finite = finite && std::isfinite(square);
    if (column < 3) lengths *= std::sqrt(square);
  }
  // Of the product of the axes' lengths: 0 where two of them have one direction.
  if (!finite || !(std::abs(determinant) >= std::max(1e-6 * lengths, 1e-12))) {
    damaged(name, "its axes have no three directions (sform, qform or pixdim)");
  }
}

}  // namespace

int nifti_axes(std::span<const std::uint8_t> bytes) {
  return Fields(bytes, is_swapped(bytes, "header")).get<std::int16_t>(kDim);
}

NiftiHeader parse_nifti_header(std::span<const std::uint8_t> bytes, const std::string& name) {
  NiftiHeader header;
  header.swapped = is_swapped(bytes, name);
  check_magic(bytes, name);
  const Fields fields(bytes, header.swapped);
  header.shape = shape_of(fields, name);
  header.type = static_cast<NiftiType>(fields.get<std::int16_t>(kDatatype));
  header.value_bytes = bytes_of(header.type, name);
  const float offset = fields.get<float>(kVoxOffset);
  // At 0 some readers find the header's own bytes and others the values behind it.
  if (!(offset >= kFirstValue && offset <= kFarthest))
    damaged(name, "its values begin at byte " + std::to_string(offset));
  header.offset = static_cast<std::int64_t>(offset);
  const float slope = fields.get<float>(kSlope);
  const float inter = fields.get<float>(kInter);
  if (slope != 0.0F && std::isfinite(slope)) {
    if (!std::isfinite(inter)) damaged(name, "its scl_inter is not finite");
    header.scaled = slope != 1.0F || inter != 0.0F;
    header.slope = slope;
    header.inter = inter;
  }
  const int unit = bytes[kUnits] & 7;
  if (unit == kMetres || unit == kMicrometres) {
    refuse(name, std::string("its header says that lengths are in ") +
                     (unit == kMetres ? "metres" : "micrometres") + ", and mm are read");
  }
  const bool placed = form_code(fields, kSformCode, name) != 0;
  const bool turned = form_code(fields, kQformCode, name) != 0;
  const int unsized = axis_without_size(fields, header.shape);
  if (!placed && unsized != 0) {
    damaged(name, "its voxels have no size along axis " + std::to_string(unsized) +
                      " (pixdim), and it has no sform");
  }
  const std::optional<Affine> other = turned && unsized == 0 ? qform(fields) : std::nullopt;
  if (!placed && turned && !other.has_value()) damaged(name, "its quaternion is longer than 1");
  header.affine = placed              ? sform(fields)
                  : other.has_value() ? *other
                                      : from_sizes(fields, header.shape);
  check_affine(header.affine, name);
  if (placed && other.has_value()) check_forms(header.affine, *other, name);
  return header;
}

std::vector<std::uint8_t> make_nifti_header(const Volume& like, NiftiType type,
                                            std::int64_t volumes) {
  std::vector<std::uint8_t> bytes(kNiftiHeaderBytes, 0);
  put(bytes, kSize, static_cast<std::int32_t>(kNiftiHeaderBytes));
  put(bytes, kDim, static_cast<std::int16_t>(type == NiftiType::kUint8 ? 3 : 4));
  for (std::size_t axis = 0; axis < 7; ++axis) {
    const std::int64_t size = axis < 3 ? like.shape[axis] : axis == 3 ? volumes : 1;
    put(bytes, kDim, static_cast<std::int16_t>(size), 1 + axis);
  }
  put(bytes, kDatatype, static_cast<std::int16_t>(type));
  put(bytes, kBitpix, static_cast<std::int16_t>(type == NiftiType::kUint8 ? 8 : 32));
  put(bytes, kVoxOffset, static_cast<float>(kFirstValue));
  put(bytes, kSlope, 1.0F);
  std::memcpy(bytes.data() + kMagic, "n+1", 4);
  if (like.header.has_value()) {
    // The place as the file said it, so that every reader, whichever form it follows, puts both
    // into one.
    const Fields fields(*like.header, is_swapped(*like.header, "header"));
    for (std::size_t i = 0; i < 8; ++i) put(bytes, kPixdim, fields.get<float>(kPixdim, i), i);
    for (const std::size_t at : {kQformCode, kSformCode})
      put(bytes, at, fields.get<std::int16_t>(at));
    for (std::size_t i = 0; i < 18; ++i)
      put(bytes, kQuaternion, fields.get<float>(kQuaternion, i), i);
    bytes[kUnits] = (*like.header)[kUnits];
    return bytes;
  }
  put(bytes, kPixdim, 1.0F);
  const std::array<double, 3> edges = spacing_of(like.affine);
  for (std::size_t axis = 0; axis < 3; ++axis)
    put(bytes, kPixdim, static_cast<float>(edges[axis]), 1 + axis);
  put(bytes, kSformCode, kScanner);
  for (std::size_t i = 0; i < 12; ++i) put(bytes, kSrow, static_cast<float>(like.affine[i]), i);
  bytes[kUnits] = kMillimetres;
  return bytes;
}

}  // namespace labelassemble
