#include "parameters.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "error.h"

namespace labelassemble::serve {
namespace {

constexpr std::size_t kMaxClasses = 4096;

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

// A parameter that does nothing would be a wish that nobody hears.
void check_parameter(const std::string& name) {
  for (const char* known : {"binary_data_output", "timeout", "classes", "sequence_id",
                            "sequence_start", "sequence_end", "priority"}) {
    if (name == known) return;
  }
  fail("unknown parameter '" + name.substr(0, 100) +
       "': a request may have classes, timeout and binary_data_output");
}

void add_class(InferRequest& request, const std::string& name) {
  std::vector<std::string>& classes = *request.classes;
  if (classes.size() == kMaxClasses) fail("classes may hold at most 4096 names");
  for (const std::string& other : classes) {
    if (other == name) fail("class '" + name + "' stands twice in classes");
  }
  classes.push_back(name);
}

void set_parameter(InferRequest& request, const std::string& name, const Scalar& value) {
  check_parameter(name);
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

void set_output_parameter(RequestedOutput& output, const std::string& name, const Scalar& value) {
  const bool shared = name.starts_with("shared_memory_");
  if (name != "binary_data" && name != "classification" && !shared) {
    fail("unknown parameter '" + name.substr(0, 100) +
         "' of an output: it may have binary_data and classification");
  }
  if (shared) fail("shared memory is not supported; outputs come in the answer");
  if (name == "binary_data") output.binary = value.truth("binary_data");
  if (name == "classification") {
    const auto count = value.integer();
    if (!count || *count < 0) fail("classification must be a whole number, at least 0");
    output.class_count = *count;
  }
}

void check_input_parameter(const std::string& label, const std::string& name) {
  if (name.starts_with("shared_memory_")) {
    fail(label + ": shared memory is not supported; send the tensor in the request");
  }
}

}  // namespace labelassemble::serve
