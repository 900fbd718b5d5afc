// A model's config.pbtxt, as far as it concerns this server.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data_type.h"

namespace labelassemble::serve {

struct TensorConfig {
  std::string name;
  DataType type = DataType::kUint8;
  std::vector<std::int64_t> dims;  // without the batch; -1: any
  std::string label_filename;
};

struct DynamicBatching {
  std::chrono::microseconds max_queue_delay{0};
  std::uint64_t max_queue_size = 0;              // requests; 0: no limit of its own
  std::chrono::microseconds default_timeout{0};  // 0: none
};

struct VersionPolicy {
  enum class Kind { kLatest, kAll, kSpecific };
  Kind kind = Kind::kLatest;
  std::int64_t latest = 1;
  std::vector<std::int64_t> specific;
};

struct ModelConfig {
  std::string name;
  std::string platform;
  std::string backend;
  std::string default_model_filename;
  std::int64_t max_batch_size = 0;  // 0: the input's dims hold the batch, and nothing is batched
  TensorConfig input;
  TensorConfig output;
  std::optional<DynamicBatching> dynamic_batching;
  VersionPolicy version_policy;
};

// The config of the model `name` from the text of its config.pbtxt. Throws Error: not text format,
// a field that Triton does not know, or one that this server cannot honour.
ModelConfig parse_model_config(std::string_view text, const std::string& name);

// Throws Error where the input is none of images.
void check_image_dims(const ModelConfig& config);

// What a model is served with that has no config.pbtxt.
ModelConfig default_model_config(const std::string& name);

}  // namespace labelassemble::serve
