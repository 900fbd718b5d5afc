#include "wire_format.h"

#include <cstring>
#include <limits>

#include "error.h"

namespace labelassemble::serve {

[[noreturn]] void malformed() {
  throw HttpError(400, "the message is no inference.ModelInferRequest");
}

std::uint64_t take_varint(Bytes& data) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (data.empty()) malformed();
    const std::uint8_t byte = data.front();
    data = data.subspan(1);
    value |= std::uint64_t{byte & 0x7FU} << shift;
    if (byte < 0x80) return value;
  }
  malformed();
}

std::uint64_t take_fixed(Bytes& data, std::size_t size) {
  if (data.size() < size) malformed();
  std::uint64_t value = 0;
  std::memcpy(&value, data.data(), size);  // little-endian, as this machine (protocol.cpp)
  data = data.subspan(size);
  return value;
}

std::optional<Field> next_field(Bytes& data) {
  if (data.empty()) return std::nullopt;
  const std::uint64_t tag = take_varint(data);
  if (tag > std::numeric_limits<std::uint32_t>::max() || tag >> 3 == 0) malformed();
  Field field{.number = static_cast<std::uint32_t>(tag >> 3), .wire = Wire(tag & 7), .bytes = {}};
  switch (field.wire) {
    case Wire::kVarint:
      field.value = take_varint(data);
      break;
    case Wire::kFixed64:
      field.value = take_fixed(data, 8);
      break;
    case Wire::kFixed32:
      field.value = take_fixed(data, 4);
      break;
    case Wire::kBytes: {
      const std::uint64_t size = take_varint(data);
      if (size > data.size()) malformed();
      field.bytes = data.first(size);
      data = data.subspan(size);
      break;
    }
    default:
      malformed();  // a group, of which protobuf 3 has none
  }
  return field;
}

void need(const Field& field, Wire wire) {
  if (field.wire != wire) malformed();
}

bool is_utf8(Bytes text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const std::uint8_t first = text[i];
    const std::size_t length = first < 0x80   ? 1
                               : first < 0xC2 ? 0
                               : first < 0xE0 ? 2
                               : first < 0xF0 ? 3
                               : first < 0xF5 ? 4
                                              : 0;
    if (length == 0 || length > text.size() - i) return false;
    for (std::size_t j = 1; j < length; ++j) {
      if ((text[i + j] & 0xC0) != 0x80) return false;
    }
    if ((first == 0xE0 && text[i + 1] < 0xA0) || (first == 0xED && text[i + 1] > 0x9F) ||
        (first == 0xF0 && text[i + 1] < 0x90) || (first == 0xF4 && text[i + 1] > 0x8F)) {
      return false;
    }
    i += length;
  }
  return true;
}

}  // namespace labelassemble::serve
