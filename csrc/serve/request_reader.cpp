#include "request_reader.h"

#include <limits>

#include "error.h"

namespace labelassemble::serve {
namespace {

constexpr std::size_t kMaxDepth = 32;

[[noreturn]] void fail(const std::string& what) { throw HttpError(400, what); }

}  // namespace

void RequestReader::read(std::string_view text) { json::sax_parse(text.begin(), text.end(), this); }

bool RequestReader::parse_error(std::size_t position, const std::string&,
                                const nlohmann::detail::exception& error) {
  if (error.id == 406) fail("the request's JSON holds a number that is too large for a double");
  fail("the request's JSON is malformed at byte " + std::to_string(position));
}

bool RequestReader::null() {
  scalar({});
  return true;
}
bool RequestReader::boolean(bool value) {
  scalar({.kind = Scalar::Kind::kBoolean, .boolean = value});
  return true;
}
bool RequestReader::number_integer(number_integer_t value) {
  scalar(Scalar::of(value));
  return true;
}
bool RequestReader::number_unsigned(number_unsigned_t value) {
  scalar(
      {.kind = Scalar::Kind::kInteger, .magnitude = value, .number = static_cast<double>(value)});
  return true;
}
bool RequestReader::number_float(number_float_t value, const string_t&) {
  scalar({.kind = Scalar::Kind::kFloat, .number = value});
  return true;
}
bool RequestReader::string(string_t& value) {
  scalar({.kind = Scalar::Kind::kString, .text = &value});
  return true;
}
bool RequestReader::binary(binary_t&) { return true; }  // JSON has none
bool RequestReader::key(string_t& value) {
  key_ = value;
  return true;
}

void RequestReader::enter(In where) {
  if (stack_.size() > kMaxDepth) fail("the request's JSON is nested too deeply");
  stack_.push_back(where);
  key_.clear();
}

std::string RequestReader::input_label() const {
  const RawInput& input = inputs.back();
  return input.name ? "input '" + *input.name + "'" : "input " + std::to_string(inputs.size() - 1);
}

bool RequestReader::start_object(std::size_t) {
  switch (stack_.back()) {
    case In::kStart:
      enter(In::kTop);
      break;
    case In::kTop:
      if (key_ == "id") fail("id must be a string");
      if (key_ == "inputs" || key_ == "outputs") fail(key_ + " must be a list");
      enter(key_ == "parameters" ? In::kParameters : In::kSkipped);
      break;
    case In::kInputs:
      if (inputs.size() == kMaxTensors) fail("a request may have at most 64 inputs");
      inputs.emplace_back();
      enter(In::kInput);
      break;
    case In::kOutputs:
      if (request.outputs.size() == kMaxTensors) fail("a request may have at most 64 outputs");
      request.outputs.emplace_back();
      enter(In::kOutput);
      break;
    case In::kInput:
      if (key_ == "name" || key_ == "datatype")
        fail(input_label() + ": " + key_ + " must be a string");
      if (key_ == "shape" || key_ == "data") fail(input_label() + ": " + key_ + " must be a list");
      enter(key_ == "parameters" ? In::kInputParameters : In::kSkipped);
      break;
    case In::kOutput:
      if (key_ == "name") fail("an output's name must be a string");
      enter(key_ == "parameters" ? In::kOutputParameters : In::kSkipped);
      break;
    case In::kShape:
      fail(input_label() + ": shape must be a list of whole numbers");
    case In::kData:
      fail(input_label() + ": data must hold numbers, booleans or strings, got an object");
    case In::kClasses:
      fail("classes must be a list of names");
    case In::kParameters:
      check_parameter(Protocol::kHttp, key_);
      fail(key_ + " must not be an object");
    case In::kInputParameters:
    case In::kOutputParameters:
      refuse_nested("an object");
    case In::kSkipped:
      enter(In::kSkipped);
      break;
  }
  return true;
}

bool RequestReader::start_array(std::size_t) {
  switch (stack_.back()) {
    case In::kStart:
      fail("the request must be a JSON object");
    case In::kTop:
      if (key_ == "id") fail("id must be a string");
      if (key_ == "parameters") fail("parameters must be an object");
      if ((key_ == "inputs" && !inputs.empty()) ||
          (key_ == "outputs" && !request.outputs.empty())) {
        fail(key_ + " may stand only once in a request");
      }
      enter(key_ == "inputs" ? In::kInputs : key_ == "outputs" ? In::kOutputs : In::kSkipped);
      break;
    case In::kInput:
      if (key_ == "name" || key_ == "datatype")
        fail(input_label() + ": " + key_ + " must be a string");
      if (key_ == "shape") {
        if (inputs.back().shape) fail(input_label() + ": shape may stand only once");
        inputs.back().shape.emplace();
        enter(In::kShape);
      } else if (key_ == "data") {
        if (inputs.back().has_data) fail(input_label() + ": data may stand only once");
        inputs.back().has_data = true;
        enter(In::kData);
      } else {
        enter(In::kSkipped);
      }
      break;
    case In::kInputs:
    case In::kOutputs:
      fail("inputs and outputs must be lists of objects");
    case In::kShape:
      fail(input_label() + ": shape must be a list of whole numbers");
    case In::kOutput:
      if (key_ == "name") fail("an output's name must be a string");
      enter(In::kSkipped);
      break;
    case In::kData:
      enter(In::kData);  // nested as the shape is, or flat: the order of elements is the same
      break;
    case In::kClasses:
      fail("classes must be a list of names");
    case In::kParameters:
      check_parameter(Protocol::kHttp, key_);
      if (key_ != "classes") fail(key_ + " must not be a list");
      if (request.classes) fail("classes may stand only once in a request");
      request.classes.emplace();
      enter(In::kClasses);
      break;
    case In::kInputParameters:
    case In::kOutputParameters:
      refuse_nested("a list");
    case In::kSkipped:
      enter(In::kSkipped);
      break;
  }
  return true;
}

// A parameter of an input or an output that holds others.
void RequestReader::refuse_nested(const char* what) const {
  if (stack_.back() == In::kOutputParameters) {
    check_output_parameter(Protocol::kHttp, key_);
    fail("an output's " + key_ + " must not be " + what);
  }
  check_input_parameter(Protocol::kHttp, input_label(), key_);
  fail(input_label() + ": " + key_ + " must not be " + what);
}

bool RequestReader::end_object() {
  stack_.pop_back();
  return true;
}
bool RequestReader::end_array() {
  stack_.pop_back();
  return true;
}

void RequestReader::scalar(const Scalar& value) {
  switch (stack_.back()) {
    case In::kStart:
      fail("the request must be a JSON object");
    case In::kTop:
      return top(value);
    case In::kParameters:
      return set_parameter(Protocol::kHttp, request, key_, value);
    case In::kClasses:
      return add_class(request, value.name("a name in classes"));
    case In::kInputs:
    case In::kOutputs:
      fail("inputs and outputs must be lists of objects");
    case In::kInput:
      return input(value);
    case In::kInputParameters:
      return input_parameter(value);
    case In::kShape:
      return shape(value);
    case In::kData:
      return data(value);
    case In::kOutput:
      return output(value);
    case In::kOutputParameters:
      return set_output_parameter(Protocol::kHttp, request.outputs.back(), key_, value);
    case In::kSkipped:
      return;
  }
}

void RequestReader::top(const Scalar& value) {
  if (key_ == "id") {
    if (!request.id.empty()) fail("id may stand only once in a request");
    request.id = value.name("id");
  }
  if (key_ == "inputs" || key_ == "outputs") fail(key_ + " must be a list");
  if (key_ == "parameters") fail("parameters must be an object");
}

void RequestReader::input(const Scalar& value) {
  RawInput& input = inputs.back();
  if (key_ == "name") input.name = value.name("an input's name");
  if (key_ == "datatype") input.datatype = value.name("an input's datatype");
  if (key_ == "shape" || key_ == "data") fail(input_label() + ": " + key_ + " must be a list");
}

void RequestReader::input_parameter(const Scalar& value) {
  check_input_parameter(Protocol::kHttp, input_label(), key_);  // it knows one
  if (!value.is_integer() || value.negative) {
    fail(input_label() + ": binary_data_size must be a whole number, at least 0");
  }
  inputs.back().binary_size = value.magnitude;
}

void RequestReader::shape(const Scalar& value) {
  std::vector<std::int64_t>& shape = *inputs.back().shape;
  const auto size = value.integer();
  if (!size) fail(input_label() + ": shape must be a list of whole numbers");
  if (*size < 1) {
    fail(input_label() + ": every dimension of shape must be at least 1, got " +
         std::to_string(*size));
  }
  if (shape.size() == kMaxDimensions) fail(input_label() + ": shape may have at most 8 dimensions");
  shape.push_back(*size);
}

void RequestReader::data(const Scalar& value) {
  RawInput& input = inputs.back();
  RawInput::Data kind = RawInput::Data::kNumbers;
  if (value.kind == Scalar::Kind::kBoolean) kind = RawInput::Data::kBooleans;
  if (value.kind == Scalar::Kind::kString) kind = RawInput::Data::kStrings;
  if (value.kind == Scalar::Kind::kNull) {
    fail(input_label() + ": data must hold numbers, booleans or strings, got null");
  }
  if (input.kind == RawInput::Data::kNone) input.kind = kind;
  if (input.kind != kind) fail(input_label() + ": data must be all of one kind");
  ++input.count;
  if (kind == RawInput::Data::kStrings) {
    const std::string& text = *value.text;
    if (text.size() > std::numeric_limits<std::uint32_t>::max()) {
      fail(input_label() + ": a string is too long");
    }
    make_room(input.strings, sizeof(std::uint32_t) + text.size(), charge_);
    const auto length = static_cast<std::uint32_t>(text.size());
    for (int byte = 0; byte < 4; ++byte) {
      input.strings.push_back(static_cast<std::uint8_t>(length >> (8 * byte)));
    }
    input.strings.insert(input.strings.end(), text.begin(), text.end());
  } else {
    make_room(input.numbers, 1, charge_);
    input.numbers.push_back(kind == RawInput::Data::kBooleans ? value.boolean : value.number);
  }
}

void RequestReader::output(const Scalar& value) {
  if (key_ == "name") request.outputs.back().name = value.name("an output's name");
}

}  // namespace labelassemble::serve
