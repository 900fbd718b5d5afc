#include "protocol.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "error.h"
#include "request_reader.h"

namespace labelassemble::serve {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors travel as little-endian");

[[noreturn]] void fail(const std::string& what) { throw HttpError(400, what); }

// The number of elements, refused where it does not fit.
std::uint64_t element_count(const std::string& label, const std::vector<std::int64_t>& shape) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40;
  std::uint64_t count = 1;
  for (const std::int64_t size : shape) {
    const auto positive = static_cast<std::uint64_t>(size);
    if (positive > kMost / count) {
      fail(label + ": shape " + shape_text(shape) + " has too many elements");
    }
    count *= positive;
  }
  return count;
}

template <typename T>
void append(std::vector<std::uint8_t>& out, T value) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

template <typename T>
void append_integers(InputTensor& tensor, const std::string& label, const RawInput& raw) {
  // In double, the largest value of a 64-bit type rounds up to a power of two, which is too much.
  const double above = std::ldexp(1.0, std::numeric_limits<T>::digits);
  for (const double number : raw.numbers) {
    if (!(number >= static_cast<double>(std::numeric_limits<T>::min()) && number < above) ||
        number != std::trunc(number)) {
      fail(label + ": data must hold whole numbers that fit " + std::string(name_of(tensor.type)));
    }
    append(tensor.values, static_cast<T>(number));
  }
}

// Data that came as JSON, as bytes of the tensor's type.
void convert(InputTensor& tensor, const std::string& label, RawInput& raw,
             MemoryBudget::Charge& charge) {
  using Data = RawInput::Data;
  const DataType type = tensor.type;
  const Data wanted = type == DataType::kBytes  ? Data::kStrings
                      : type == DataType::kBool ? Data::kBooleans
                                                : Data::kNumbers;
  if (raw.kind != wanted) {
    fail(label + ": data of " + std::string(name_of(type)) + " must be " +
         (wanted == Data::kStrings    ? "strings"
          : wanted == Data::kBooleans ? "true or false"
                                      : "numbers"));
  }
  if (type != DataType::kBytes) {
    make_room(tensor.values, raw.numbers.size() * std::max<std::size_t>(1, element_size(type)),
              charge);
  }
  switch (type) {
    case DataType::kBytes:
      tensor.values = std::move(raw.strings);
      break;
    case DataType::kBool:
    case DataType::kUint8:
      append_integers<std::uint8_t>(tensor, label, raw);
      break;
    case DataType::kUint16:
      append_integers<std::uint16_t>(tensor, label, raw);
      break;
    case DataType::kUint32:
      append_integers<std::uint32_t>(tensor, label, raw);
      break;
    case DataType::kUint64:
      append_integers<std::uint64_t>(tensor, label, raw);
      break;
    case DataType::kInt8:
      append_integers<std::int8_t>(tensor, label, raw);
      break;
    case DataType::kInt16:
      append_integers<std::int16_t>(tensor, label, raw);
      break;
    case DataType::kInt32:
      append_integers<std::int32_t>(tensor, label, raw);
      break;
    case DataType::kInt64:
      append_integers<std::int64_t>(tensor, label, raw);
      break;
    case DataType::kFp32:
      for (const double number : raw.numbers) {
        if (std::abs(number) > static_cast<double>(std::numeric_limits<float>::max())) {
          fail(label + ": data must hold numbers that fit FP32");
        }
        append(tensor.values, static_cast<float>(number));
      }
      break;
    case DataType::kFp64:
      for (const double number : raw.numbers) append(tensor.values, number);
      break;
    case DataType::kFp16:
    case DataType::kBf16:
      fail(label + ": data of " + std::string(name_of(type)) + " must be sent as binary data");
  }
  free_room(raw.numbers, charge);
  tensor.data = tensor.values;
}

// The elements of a BYTES tensor: each is a length, 4 bytes little-endian, and as many bytes.
std::vector<Bytes> split(const std::string& label, Bytes data, std::uint64_t count,
                         MemoryBudget::Charge& charge) {
  if (count > data.size() / 4) {
    fail(label + ": " + std::to_string(data.size()) + " bytes are too few for " +
         std::to_string(count) + " elements");
  }
  std::vector<Bytes> elements;
  make_room(elements, count, charge);
  while (elements.size() < count) {
    const std::string element = "element " + std::to_string(elements.size());
    if (data.size() < 4) fail(label + ": the data ends before the length of " + element);
    std::uint32_t length = 0;
    std::memcpy(&length, data.data(), sizeof length);
    data = data.subspan(4);
    if (length > data.size()) {
      fail(label + ": " + element + " says it has " + std::to_string(length) + " bytes, but " +
           std::to_string(data.size()) + " are left");
    }
    elements.push_back(data.first(length));
    data = data.subspan(length);
  }
  if (!data.empty()) {
    fail(label + ": " + std::to_string(data.size()) + " bytes follow the last element");
  }
  return elements;
}

}  // namespace

InputTensor tensor_of(RawInput& raw, std::size_t index, Bytes& binary,
                      MemoryBudget::Charge& charge) {
  InputTensor tensor;
  if (!raw.name || raw.name->empty()) fail("input " + std::to_string(index) + " has no name");
  tensor.name = *raw.name;
  const std::string label = "input '" + tensor.name + "'";
  if (!raw.datatype) fail(label + " has no datatype");
  const auto type = parse_data_type(*raw.datatype);
  if (!type) fail(label + ": unknown datatype '" + raw.datatype->substr(0, 32) + "'");
  tensor.type = *type;
  if (!raw.shape || raw.shape->empty()) fail(label + " has no shape");
  tensor.shape = *raw.shape;
  const std::uint64_t count = element_count(label, tensor.shape);

  if (raw.binary_size) {
    if (raw.has_data) fail(label + " has both data and binary_data_size");
    if (*raw.binary_size > binary.size()) {
      fail(label + ": binary_data_size is " + std::to_string(*raw.binary_size) + ", but " +
           std::to_string(binary.size()) + " bytes are left in the request");
    }
    tensor.data = binary.first(*raw.binary_size);
    binary = binary.subspan(*raw.binary_size);
  } else {
    if (!raw.has_data) fail(label + " has neither data nor binary_data_size");
    if (raw.count != count) {
      fail(label + ": shape " + shape_text(tensor.shape) + " needs " + std::to_string(count) +
           " elements, got " + std::to_string(raw.count));
    }
    convert(tensor, label, raw, charge);
  }
  if (tensor.type == DataType::kBytes) {
    tensor.elements = split(label, tensor.data, count, charge);
  } else if (tensor.data.size() != count * element_size(tensor.type)) {
    fail(label + ": " + std::string(name_of(tensor.type)) + " " + shape_text(tensor.shape) +
         " needs " + std::to_string(count * element_size(tensor.type)) + " bytes, got " +
         std::to_string(tensor.data.size()));
  }
  return tensor;
}

void check_names(const InferRequest& request) {
  if (request.inputs.empty()) fail("the request has no inputs");
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (request.inputs[j].name == request.inputs[i].name) {
        fail("input '" + request.inputs[i].name + "' stands twice");
      }
    }
  }
  for (const RequestedOutput& output : request.outputs) {
    if (output.name.empty()) fail("a requested output has no name");
  }
}

InferRequest parse_infer_request(Bytes body, std::optional<std::size_t> header_length,
                                 MemoryBudget::Charge& charge) {
  const std::size_t length = header_length.value_or(body.size());
  if (length > body.size()) {
    fail("Inference-Header-Content-Length is " + std::to_string(length) + ", but the body has " +
         std::to_string(body.size()) + " bytes");
  }
  // One text of the JSON may be nearly all of it: once as it is read, once as a key, and half as
  // much again where its room grows.
  const TemporaryCharge text(charge, 4 * length);
  RequestReader reader(charge);
  reader.read(std::string_view(reinterpret_cast<const char*>(body.data()), length));

  InferRequest request = std::move(reader.request);
  Bytes binary = body.subspan(length);
  for (std::size_t i = 0; i < reader.inputs.size(); ++i) {
    request.inputs.push_back(tensor_of(reader.inputs[i], i, binary, charge));
  }
  check_names(request);
  if (!binary.empty()) {
    fail(std::to_string(binary.size()) + " bytes follow the last tensor of the request");
  }
  return request;
}

void append_raw(std::string& out, const OutputTensor& output) {
  if (output.type != DataType::kBytes) {
    out.append(reinterpret_cast<const char*>(output.numbers.data()),
               output.numbers.size() * sizeof(float));
    return;
  }
  for (const std::string& text : output.strings) {
    const auto length = static_cast<std::uint32_t>(text.size());
    out.append(reinterpret_cast<const char*>(&length), sizeof length);
    out += text;
  }
}

std::size_t raw_bytes(const OutputTensor& output) {
  if (output.type != DataType::kBytes) return output.numbers.size() * sizeof(float);
  std::size_t bytes = 0;
  for (const std::string& text : output.strings) bytes += sizeof(std::uint32_t) + text.size();
  return bytes;
}

EncodedAnswer encode_answer(const std::string& model, const std::string& version,
                            const std::string& id, const std::vector<OutputTensor>& outputs) {
  using nlohmann::json;
  json answer{{"model_name", model}, {"model_version", version}};
  if (!id.empty()) answer["id"] = id;
  json& list = answer["outputs"] = json::array();
  std::size_t binary = 0;
  bool any_binary = false;
  for (const OutputTensor& output : outputs) {
    json tensor{{"name", output.name}, {"datatype", name_of(output.type)}, {"shape", output.shape}};
    if (!output.binary) {
      if (output.type == DataType::kBytes) {
        tensor["data"] = output.strings;
      } else {
        tensor["data"] = output.numbers;
      }
    } else {
      any_binary = true;
      binary += raw_bytes(output);
      tensor["parameters"] = {{"binary_data_size", raw_bytes(output)}};
    }
    list.push_back(std::move(tensor));
  }
  // What came in as a name may not be UTF-8.
  EncodedAnswer encoded{answer.dump(-1, ' ', false, json::error_handler_t::replace), std::nullopt};
  if (any_binary) {
    encoded.header_length = encoded.body.size();
    encoded.body.reserve(encoded.body.size() + binary);  // one that grows takes more than it holds
    for (const OutputTensor& output : outputs) {
      if (output.binary) append_raw(encoded.body, output);
    }
  }
  return encoded;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace labelassemble::serve
