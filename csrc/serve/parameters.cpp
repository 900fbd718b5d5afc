#include "parameters.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "error.h"

namespace labelassemble::serve {
namespace {

constexpr std::size_t kMaxClasses = 4096;
constexpr std::size_t kMaxQuoted = 100;  // bytes of a name in a message

[[noreturn]] void fail(const std::string& what) { throw HttpError(400, what); }

}  // namespace

Scalar Scalar::of(std::int64_t integer) {
  const auto bits = static_cast<std::uint64_t>(integer);
  return {.kind = Kind::kInteger,
          .negative = integer < 0,
          .magnitude = integer < 0 ? 0 - bits : bits,
          .number = static_cast<double>(integer)};
}

std::optional<std::int64_t> Scalar::integer() const {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  if (!is_integer() || magnitude > kMost) return std::nullopt;
  const auto value = static_cast<std::int64_t>(magnitude);
  return negative ? -value : value;
}

const std::string& Scalar::string(const char* what) const {
  if (kind != Kind::kString) fail(std::string(what) + " must be a string");
  return *text;
}

const std::string& Scalar::name(const char* what) const {
  const std::string& text = string(what);
  if (text.size() > kMaxName) {
    fail(std::string(what) + " must have at most " + std::to_string(kMaxName) + " bytes");
  }
  return text;
}

bool Scalar::truth(const char* what) const {
  if (kind != Kind::kBoolean) fail(std::string(what) + " must be true or false");
  return boolean;
}

void check_parameter(Protocol protocol, const std::string& name) {
  const bool http = protocol == Protocol::kHttp;
  for (const char* known :
       {"timeout", "classes", "sequence_id", "sequence_start", "sequence_end", "priority",
        // Triton's client asks a stream for it; here an answer is always the
        // last of its request.
        http ? "binary_data_output" : "triton_enable_empty_final_response"}) {
    if (name == known) return;
  }
  if (name == "binary_data_output") {
    fail("unknown parameter 'binary_data_output': outputs are raw in every answer over gRPC");
  }
  fail("unknown parameter '" + name.substr(0, kMaxQuoted) + "': a request may have " +
       (http ? "classes, timeout and binary_data_output" : "classes and timeout"));
}

void check_output_parameter(Protocol protocol, const std::string& name) {
  const bool http = protocol == Protocol::kHttp;
  if (name.starts_with("shared_memory_")) {
    fail("shared memory is not supported; outputs come in the answer");
  }
  if (name == "classification" || (http && name == "binary_data")) return;
  if (name == "binary_data") {
    fail("unknown parameter 'binary_data' of an output: it is raw in every answer over gRPC");
  }
  fail("unknown parameter '" + name.substr(0, kMaxQuoted) + "' of an output: it may have " +
       (http ? "binary_data and classification" : "classification"));
}

void check_input_parameter(Protocol protocol, const std::string& label, const std::string& name) {
  if (name.starts_with("shared_memory_")) {
    fail(label + ": shared memory is not supported; send the tensor in the request");
  }
  if (protocol == Protocol::kHttp && name == "binary_data_size") return;
  fail(label + ": unknown parameter '" + name.substr(0, kMaxQuoted) + "': an input may have " +
       (protocol == Protocol::kHttp ? "binary_data_size" : "none over gRPC"));
}

void add_class(InferRequest& request, const std::string& name) {
  std::vector<std::string>& classes = *request.classes;
  if (classes.size() == kMaxClasses) fail("classes may hold at most 4096 names");
  for (const std::string& other : classes) {
    if (other == name) fail("class '" + name + "' stands twice in classes");
  }
  classes.push_back(name);
}

void set_parameter(Protocol protocol, InferRequest& request, const std::string& name,
                   const Scalar& value) {
  check_parameter(protocol, name);
  if (name == "classes") {
    // Triton's clients send texts, numbers and truth values only: a name, or a list as JSON.
    const std::string& text = value.string("classes");
    if (request.classes) fail("classes may stand only once in a request");
    request.classes.emplace();
    if (!text.starts_with('[')) return add_class(request, value.name("classes"));
    if (text.size() > kMaxName * 16) fail("classes as a text must have at most 16384 bytes");
    const auto names = nlohmann::json::parse(text, nullptr, false);
    if (!names.is_array()) fail("classes must be a name or a JSON list of names");
    for (const auto& one : names) {
      if (!one.is_string()) fail("classes must be a name or a JSON list of names");
      add_class(request, one.get<std::string>());
    }
  }
  if (name == "triton_enable_empty_final_response") static_cast<void>(value.truth(name.c_str()));
  if (name == "binary_data_output") request.binary_output = value.truth("binary_data_output");
  if (name == "timeout") {
    const auto timeout = value.integer();
    if (!timeout || *timeout < 0) {
      fail("timeout must be a whole number of microseconds, at least 0");
    }
    if (*timeout > 0) request.timeout_us = *timeout;
  }
  if (name == "sequence_id" &&
      (value.kind == Scalar::Kind::kString ? !value.text->empty() : value.magnitude != 0)) {
    fail("sequence_id is not supported: the models of this server keep no state");
  }
}

void set_output_parameter(Protocol protocol, RequestedOutput& output, const std::string& name,
                          const Scalar& value) {
  check_output_parameter(protocol, name);
  if (name == "binary_data") output.binary = value.truth("binary_data");
  if (name == "classification") {
    const auto count = value.integer();
    if (!count || *count < 0) fail("classification must be a whole number, at least 0");
    output.class_count = *count;
  }
}

}  // namespace labelassemble::serve
