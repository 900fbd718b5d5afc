// Messages of protobuf as they travel (https://protobuf.dev/programming-guides/encoding).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "protocol.h"

namespace labelassemble::serve {

// What stands before a field's value.
enum class Wire : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Field {
  std::uint32_t number = 0;
  Wire wire = Wire::kVarint;
  std::uint64_t value = 0;  // of the three that are numbers, its bits
  Bytes bytes;
};

// These throw HttpError 400 where the bytes are no message, and take what they read from `data`.
std::uint64_t take_varint(Bytes& data);
std::uint64_t take_fixed(Bytes& data, std::size_t size);  // little-endian, of 4 or 8 bytes
std::optional<Field> next_field(Bytes& data);             // nothing at the end
void need(const Field& field, Wire wire);
[[noreturn]] void malformed();

// RFC 3629: no surrogates, nothing longer than it must be.
bool is_utf8(Bytes text);

}  // namespace labelassemble::serve
