#include "grpc_request.h"

#include <array>
#include <bit>
#include <limits>
#include <optional>
#include <vector>

#include "error.h"
#include "parameters.h"
#include "request_reader.h"
#include "wire_format.h"

namespace labelassemble::serve {
namespace {

[[noreturn]] void fail(const std::string& what) { throw HttpError(400, what); }

std::string text_of(const Field& field, const char* what, std::size_t most = kMaxName) {
  need(field, Wire::kBytes);
  if (field.bytes.size() > most) {
    fail(std::string(what) + " must have at most " + std::to_string(most) + " bytes");
  }
  if (!is_utf8(field.bytes)) fail(std::string(what) + " must be UTF-8");
  return {reinterpret_cast<const char*>(field.bytes.data()), field.bytes.size()};
}

// An entry of map<string, InferParameter>.
struct Parameter {
  std::string name;
  Scalar value;
  std::string text;  // what `value` points to
};

// Of a list of classes as JSON.
constexpr std::size_t kMaxParameter = 16 * kMaxName;

void read_value(Bytes message, Parameter& parameter) {
  while (const auto field = next_field(message)) {
    const auto integer = static_cast<std::int64_t>(field->value);
    switch (field->number) {
      case 1:
        need(*field, Wire::kVarint);
        parameter.value = {.kind = Scalar::Kind::kBoolean, .boolean = field->value != 0};
        break;
      case 2:
        need(*field, Wire::kVarint);
        parameter.value = Scalar::of(integer);
        break;
      case 3:
        parameter.text = text_of(*field, "a parameter's value", kMaxParameter);
        parameter.value = {.kind = Scalar::Kind::kString};
        break;
      case 4:
        need(*field, Wire::kFixed64);
        parameter.value = {.kind = Scalar::Kind::kFloat,
                           .number = std::bit_cast<double>(field->value)};
        break;
      case 5:
        need(*field, Wire::kVarint);
        parameter.value = {.kind = Scalar::Kind::kInteger,
                           .magnitude = field->value,
                           .number = static_cast<double>(field->value)};
        break;
      default:
        break;
    }
  }
}

template <typename Function>
void read_parameter(const Field& entry, Function set) {
  need(entry, Wire::kBytes);
  Parameter parameter;
  Bytes message = entry.bytes;
  while (const auto field = next_field(message)) {
    if (field->number == 1) parameter.name = text_of(*field, "a parameter's name");
    if (field->number == 2) {
      need(*field, Wire::kBytes);
      read_value(field->bytes, parameter);
    }
  }
  if (parameter.value.kind == Scalar::Kind::kString) parameter.value.text = &parameter.text;
  set(parameter.name, parameter.value);
}

RequestedOutput output_of(const Field& field) {
  need(field, Wire::kBytes);
  RequestedOutput output;
  Bytes message = field.bytes;
  while (const auto part = next_field(message)) {
    if (part->number == 1) output.name = text_of(*part, "an output's name");
    if (part->number == 2) {
      read_parameter(*part, [&](const std::string& name, const Scalar& value) {
        set_output_parameter(Protocol::kGrpc, output, name, value);
      });
    }
  }
  return output;
}

// Which kinds of elements InferTensorContents has, by the number of the field less 1.
struct Contents {
  const char* name;
  Wire wire;  // of one element
  std::array<DataType, 3> types;
};
constexpr std::array<Contents, 8> kContents{{
    {"bool_contents", Wire::kVarint, {DataType::kBool, DataType::kBool, DataType::kBool}},
    {"int_contents", Wire::kVarint, {DataType::kInt8, DataType::kInt16, DataType::kInt32}},
    {"int64_contents", Wire::kVarint, {DataType::kInt64, DataType::kInt64, DataType::kInt64}},
    {"uint_contents", Wire::kVarint, {DataType::kUint8, DataType::kUint16, DataType::kUint32}},
    {"uint64_contents", Wire::kVarint, {DataType::kUint64, DataType::kUint64, DataType::kUint64}},
    {"fp32_contents", Wire::kFixed32, {DataType::kFp32, DataType::kFp32, DataType::kFp32}},
    {"fp64_contents", Wire::kFixed64, {DataType::kFp64, DataType::kFp64, DataType::kFp64}},
    {"bytes_contents", Wire::kBytes, {DataType::kBytes, DataType::kBytes, DataType::kBytes}},
}};

double number_of(std::uint32_t field, std::uint64_t bits) {
  switch (field) {
    case 1:
      return bits != 0 ? 1 : 0;
    case 2:  // of 32 bits, but negative ones are written as 64
      return static_cast<double>(static_cast<std::int32_t>(bits));
    case 3:
      return static_cast<double>(static_cast<std::int64_t>(bits));
    case 4:
      return static_cast<double>(static_cast<std::uint32_t>(bits));
    case 6:
      return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    case 7:
      return std::bit_cast<double>(bits);
    default:
      return static_cast<double>(bits);
  }
}

// Adds one field of InferTensorContents, which may be one element or many packed ones.
void add_contents(RawInput& input, const Field& field, std::uint32_t& used,
                  MemoryBudget::Charge& charge) {
  if (field.number > kContents.size()) return;
  if (used != 0 && used != field.number) fail("contents of an input must be of one kind");
  used = field.number;
  input.has_data = true;
  const Wire wire = kContents[field.number - 1].wire;
  if (wire == Wire::kBytes) {
    need(field, Wire::kBytes);
    input.kind = RawInput::Data::kStrings;
    make_room(input.strings, sizeof(std::uint32_t) + field.bytes.size(), charge);
    if (field.bytes.size() > std::numeric_limits<std::uint32_t>::max()) malformed();
    const auto length = static_cast<std::uint32_t>(field.bytes.size());
    const auto* start = reinterpret_cast<const std::uint8_t*>(&length);
    input.strings.insert(input.strings.end(), start, start + sizeof length);
    input.strings.insert(input.strings.end(), field.bytes.begin(), field.bytes.end());
    ++input.count;
    return;
  }
  input.kind = field.number == 1 ? RawInput::Data::kBooleans : RawInput::Data::kNumbers;
  const auto add = [&](std::uint64_t bits) {
    make_room(input.numbers, 1, charge);
    input.numbers.push_back(number_of(field.number, bits));
    ++input.count;
  };
  if (field.wire == wire) return add(field.value);
  need(field, Wire::kBytes);
  Bytes packed = field.bytes;
  while (!packed.empty()) {
    add(wire == Wire::kVarint ? take_varint(packed)
                              : take_fixed(packed, wire == Wire::kFixed32 ? 4 : 8));
  }
}

void add_size(RawInput& input, const std::string& label, std::uint64_t bits) {
  const auto size = static_cast<std::int64_t>(bits);
  if (size < 1) {
    fail(label + ": every dimension of shape must be at least 1, got " + std::to_string(size));
  }
  if (input.shape->size() == kMaxDimensions) fail(label + ": shape may have at most 8 dimensions");
  input.shape->push_back(size);
}

void check_contents(const RawInput& input, const std::string& label, std::uint32_t used) {
  const auto type = parse_data_type(input.datatype.value_or(""));
  if (used == 0 || !type) return;
  if (*type == DataType::kFp16 || *type == DataType::kBf16) {
    fail(label + ": " + *input.datatype + " must be sent in raw_input_contents");
  }
  for (const Contents& contents : kContents) {
    for (const DataType one : contents.types) {
      if (one == *type && &contents != &kContents[used - 1]) {
        fail(label + ": contents of " + *input.datatype + " must be " + contents.name + ", got " +
             kContents[used - 1].name);
      }
    }
  }
}

// One of the inputs; `raw`: its element of raw_input_contents, or null where there are none.
InputTensor input_of(Bytes message, std::size_t index, const Bytes* raw,
                     MemoryBudget::Charge& charge) {
  RawInput input;
  std::string label = "input " + std::to_string(index);
  std::uint32_t used = 0;
  while (const auto field = next_field(message)) {
    switch (field->number) {
      case 1:
        input.name = text_of(*field, "an input's name");
        label = "input '" + *input.name + "'";
        break;
      case 2:
        input.datatype = text_of(*field, "an input's datatype");
        break;
      case 3: {
        if (!input.shape) input.shape.emplace();
        if (field->wire == Wire::kVarint) {
          add_size(input, label, field->value);
          break;
        }
        need(*field, Wire::kBytes);
        Bytes packed = field->bytes;
        while (!packed.empty()) add_size(input, label, take_varint(packed));
        break;
      }
      case 4:
        read_parameter(*field, [&](const std::string& name, const Scalar&) {
          check_input_parameter(Protocol::kGrpc, label, name);
        });
        break;
      case 5: {
        need(*field, Wire::kBytes);
        Bytes contents = field->bytes;
        while (const auto part = next_field(contents)) add_contents(input, *part, used, charge);
        break;
      }
      default:
        break;
    }
  }
  if (raw != nullptr && input.has_data) fail(label + " has both contents and raw_input_contents");
  if (raw == nullptr && !input.has_data)
    fail(label + " has neither contents nor raw_input_contents");
  check_contents(input, label, used);
  Bytes data;
  if (raw != nullptr) {
    data = *raw;
    input.binary_size = data.size();
  }
  return tensor_of(input, index, data, charge);
}

}  // namespace

GrpcTarget grpc_target(Bytes message) {
  GrpcTarget target;
  while (const auto field = next_field(message)) {
    if (field->number == 1) target.model = text_of(*field, "model_name");
    if (field->number == 2) target.version = text_of(*field, "model_version");
  }
  return target;
}

InferRequest parse_grpc_request(Bytes message, MemoryBudget::Charge& charge) {
  InferRequest request;
  request.binary_output = true;
  std::vector<Bytes> inputs;
  std::vector<Bytes> raw;
  while (const auto field = next_field(message)) {
    switch (field->number) {
      case 3:
        request.id = text_of(*field, "id");
        break;
      case 4:
        read_parameter(*field, [&](const std::string& name, const Scalar& value) {
          set_parameter(Protocol::kGrpc, request, name, value);
        });
        break;
      case 5:
        need(*field, Wire::kBytes);
        if (inputs.size() == kMaxTensors) fail("a request may have at most 64 inputs");
        inputs.push_back(field->bytes);
        break;
      case 6:
        if (request.outputs.size() == kMaxTensors) fail("a request may have at most 64 outputs");
        request.outputs.push_back(output_of(*field));
        break;
      case 7:
        need(*field, Wire::kBytes);
        if (raw.size() == kMaxTensors) fail("a request may have at most 64 raw_input_contents");
        raw.push_back(field->bytes);
        break;
      default:
        break;
    }
  }
  if (!raw.empty() && raw.size() != inputs.size()) {
    fail("raw_input_contents must hold one element for each of the " +
         std::to_string(inputs.size()) + " inputs, got " + std::to_string(raw.size()));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    request.inputs.push_back(input_of(inputs[i], i, raw.empty() ? nullptr : &raw[i], charge));
  }
  check_names(request);
  return request;
}

}  // namespace labelassemble::serve
