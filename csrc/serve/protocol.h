// Inference requests and answers as bytes: the Open Inference Protocol's JSON with Triton's binary
// tensor data. Pure functions of bytes, so that they can be fuzzed; no HTTP and no libtorch.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data_type.h"
#include "memory_budget.h"

namespace labelassemble::serve {

using Bytes = std::span<const std::uint8_t>;

struct InputTensor {
  std::string name;
  DataType type = DataType::kUint8;
  std::vector<std::int64_t> shape;   // every dimension at least 1
  std::vector<std::uint8_t> values;  // what came as JSON, little-endian
  Bytes data;                        // `values`, or a part of the request's body
  std::vector<Bytes> elements;       // for BYTES: each element within `data`
};

struct RequestedOutput {
  std::string name;
  std::optional<bool> binary;
  std::int64_t class_count = 0;  // of Triton's classification extension; 0: the plain tensor
};

struct InferRequest {
  std::string id;
  std::vector<InputTensor> inputs;
  std::vector<RequestedOutput> outputs;  // empty: all of them
  bool binary_output = false;            // for outputs that do not say
  std::optional<std::int64_t> timeout_us;
  std::optional<std::vector<std::string>> classes;  // those asked for, in this order; else all
};

// Throws HttpError 400, a sentence that says what is wrong; 413 or 503 where there is no memory for
// the values. `header_length` is that of the JSON at the start of the body; without one the whole
// body is JSON. The request points into `body`.
InferRequest parse_infer_request(Bytes body, std::optional<std::size_t> header_length,
                                 MemoryBudget::Charge& charge);

struct OutputTensor {
  std::string name;
  DataType type = DataType::kFp32;  // or BYTES
  std::vector<std::int64_t> shape;
  std::vector<float> numbers;        // FP32
  std::vector<std::string> strings;  // BYTES
  bool binary = false;
  bool compressed = false;  // files that are so already
};

// The tensor as it travels without JSON: little-endian, a text after its length of 4 bytes.
void append_raw(std::string& out, const OutputTensor& output);
std::size_t raw_bytes(const OutputTensor& output);

struct EncodedAnswer {
  std::string body;
  std::optional<std::size_t> header_length;  // where binary tensors follow the JSON
};

EncodedAnswer encode_answer(const std::string& model, const std::string& version,
                            const std::string& id, const std::vector<OutputTensor>& outputs);

std::string shape_text(std::span<const std::int64_t> shape);  // "[2, 3, 224, 224]"

}  // namespace labelassemble::serve
