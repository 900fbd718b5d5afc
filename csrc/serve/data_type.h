// The data types of the Open Inference Protocol.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace labelassemble::serve {

enum class DataType {
  kBool,
  kUint8,
  kUint16,
  kUint32,
  kUint64,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFp16,
  kBf16,
  kFp32,
  kFp64,
  kBytes,
};

std::string_view name_of(DataType type);         // as in requests: "UINT8", "FP32", "BYTES"
std::string_view config_name_of(DataType type);  // as in config.pbtxt: "TYPE_UINT8", "TYPE_STRING"
std::size_t element_size(DataType type);         // in bytes; 0 for BYTES

std::optional<DataType> parse_data_type(std::string_view name);
std::optional<DataType> parse_config_data_type(std::string_view name);

}  // namespace labelassemble::serve
