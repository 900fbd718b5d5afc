// EXIF: the one entry that changes how an image is looked at. As
// labelassemble.data.decoding.exif_orientation.
#include "decoders.h"

namespace labelassemble {
namespace {

constexpr unsigned kOrientation = 0x0112;
constexpr unsigned kShort = 3;

// Numbers of an EXIF block in its own byte order; those beyond its end are 0.
class Reader {
 public:
  Reader(Bytes bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

  std::uint32_t number(std::size_t at, std::size_t size) const {
    if (at > bytes_.size() || size > bytes_.size() - at) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value = value << 8 | bytes_[at + (big_endian_ ? i : size - 1 - i)];
    }
    return value;
  }

 private:
  Bytes bytes_;
  bool big_endian_;
};

}  // namespace

int exif_orientation(Bytes exif) {
  if (exif.size() < 8 || exif[0] != exif[1] || (exif[0] != 'I' && exif[0] != 'M')) return 1;
  const Reader reader(exif, exif[0] == 'M');
  if (reader.number(2, 2) != 42) return 1;
  const std::size_t directory = reader.number(4, 4);
  const std::size_t entries = reader.number(directory, 2);
  for (std::size_t i = 0; i < entries && directory + 14 + 12 * i <= exif.size(); ++i) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (reader.number(entry, 2) != kOrientation) continue;
    const std::uint32_t value = reader.number(entry + 8, 2);
    const bool one_short =
        reader.number(entry + 2, 2) == kShort && reader.number(entry + 4, 4) == 1;
    return one_short && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace labelassemble
