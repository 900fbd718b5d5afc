#include "model_config.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "labelassemble/error.h"
#include "text_format.h"

namespace labelassemble::serve {
namespace {

// Every field of Triton's ModelConfig (model_config.proto). Those that are not read below tell
// Triton how to run the model (instance groups, optimization, parameters) or are its own kinds of
// warm-up, and change no answer; ensembles, sequences and decoupled models are refused.
constexpr std::array<std::string_view, 25> kKnownFields{
    "name",
    "platform",
    "backend",
    "version_policy",
    "max_batch_size",
    "input",
    "output",
    "batch_input",
    "batch_output",
    "optimization",
    "dynamic_batching",
    "sequence_batching",
    "ensemble_scheduling",
    "instance_group",
    "default_model_filename",
    "cc_model_filenames",
    "metric_tags",
    "parameters",
    "model_warmup",
    "model_operations",
    "model_transaction_policy",
    "model_repository_agents",
    "response_cache",
    "runtime",
    "model_metrics",
};

[[noreturn]] void fail(const TextField& field, const std::string& what) {
  throw Error("line " + std::to_string(field.line) + ": " + field.name + " " + what);
}

std::int64_t integer(const TextField& field, std::int64_t least) {
  std::int64_t value = 0;
  const std::string& text = field.text;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (field.kind != TextField::Kind::kWord || error != std::errc() ||
      end != text.data() + text.size() || value < least) {
    fail(field,
         "must be a whole number, at least " + std::to_string(least) + ", got '" + text + "'");
  }
  return value;
}

const std::string& string(const TextField& field) {
  if (field.kind != TextField::Kind::kString) fail(field, "must be a string in quotes");
  return field.text;
}

const TextMessage& message(const TextField& field) {
  if (field.kind != TextField::Kind::kMessage) fail(field, "must be a message in braces");
  return field.message;
}

TensorConfig tensor(const TextField& field) {
  TensorConfig tensor;
  bool typed = false;
  for (const TextField& part : message(field).fields) {
    if (part.name == "name") tensor.name = string(part);
    if (part.name == "data_type") {
      const auto type = parse_config_data_type(part.text);
      if (!type) fail(part, "is unknown: '" + part.text + "'");
      tensor.type = *type;
      typed = true;
    }
    if (part.name == "dims") {
      const std::int64_t dim = integer(part, -1);
      if (dim == 0) fail(part, "must be positive, or -1 for any, got 0");
      tensor.dims.push_back(dim);
    }
    if (part.name == "label_filename") tensor.label_filename = string(part);
    if (part.name == "reshape") fail(part, "is not supported");
  }
  if (tensor.name.empty()) fail(field, "must have a name");
  if (!typed) fail(field, "'" + tensor.name + "' must have a data_type");
  if (tensor.dims.empty()) fail(field, "'" + tensor.name + "' must have dims");
  return tensor;
}

DynamicBatching dynamic_batching(const TextField& field) {
  DynamicBatching batching;
  constexpr std::int64_t kHour = 3'600'000'000;
  for (const TextField& part : message(field).fields) {
    if (part.name == "max_queue_delay_microseconds") {
      batching.max_queue_delay = std::chrono::microseconds(std::min(integer(part, 0), kHour));
    }
    if (part.name == "default_queue_policy") {
      for (const TextField& rule : message(part).fields) {
        if (rule.name == "max_queue_size") {
          batching.max_queue_size = static_cast<std::uint64_t>(integer(rule, 0));
        }
        if (rule.name == "default_timeout_microseconds") {
          batching.default_timeout = std::chrono::microseconds(std::min(integer(rule, 0), kHour));
        }
      }
    }
  }
  return batching;
}

VersionPolicy version_policy(const TextField& field) {
  VersionPolicy policy;
  for (const TextField& part : message(field).fields) {
    if (part.name == "all") policy.kind = VersionPolicy::Kind::kAll;
    if (part.name == "latest") {
      policy.kind = VersionPolicy::Kind::kLatest;
      for (const TextField& rule : message(part).fields) {
        if (rule.name == "num_versions") policy.latest = integer(rule, 1);
      }
    }
    if (part.name == "specific") {
      policy.kind = VersionPolicy::Kind::kSpecific;
      for (const TextField& rule : message(part).fields) {
        if (rule.name == "versions") policy.specific.push_back(integer(rule, 1));
      }
    }
  }
  return policy;
}

void check(const ModelConfig& config, const std::string& folder) {
  if (!config.name.empty() && config.name != folder) {
    throw Error("name must be that of the folder, '" + folder + "', got '" + config.name + "'");
  }
  const DataType in = config.input.type;
  if (in != DataType::kUint8 && in != DataType::kFp16 && in != DataType::kFp32 &&
      in != DataType::kFp64 && in != DataType::kBytes) {
    throw Error("input '" + config.input.name +
                "' must be TYPE_UINT8, TYPE_FP16, TYPE_FP32, TYPE_FP64 (images) or TYPE_STRING "
                "(image files), got " +
                std::string(config_name_of(in)));
  }
  if (config.output.type != DataType::kFp32) {
    throw Error("output '" + config.output.name + "' must be TYPE_FP32, got " +
                std::string(config_name_of(config.output.type)));
  }
  // Patches of volumes have an axis more; which of the two it is the model says.
  const std::size_t batch = config.max_batch_size > 0 ? 0 : 1;
  if (config.input.dims.size() != 4 + batch) check_image_dims(config);
}

}  // namespace

void check_image_dims(const ModelConfig& config) {
  const std::size_t batch = config.max_batch_size > 0 ? 0 : 1;
  if (config.input.type == DataType::kBytes || config.input.dims.size() == 3 + batch) return;
  throw Error("input '" + config.input.name + "' must have dims " +
              (batch == 0 ? "[channels, height, width]" : "[batch, channels, height, width]") +
              ", got " + std::to_string(config.input.dims.size()) + " of them");
}

ModelConfig parse_model_config(std::string_view text, const std::string& name) {
  ModelConfig config;
  std::vector<TensorConfig> inputs;
  std::vector<TensorConfig> outputs;
  const TextMessage root = parse_text_format(text);
  for (const TextField& field : root.fields) {
    if (std::find(kKnownFields.begin(), kKnownFields.end(), field.name) == kKnownFields.end()) {
      fail(field, "is no field of a model's configuration");
    }
    if (field.name == "name") config.name = string(field);
    if (field.name == "platform") config.platform = string(field);
    if (field.name == "backend") config.backend = string(field);
    if (field.name == "default_model_filename") config.default_model_filename = string(field);
    if (field.name == "max_batch_size") config.max_batch_size = integer(field, 0);
    if (field.name == "input") inputs.push_back(tensor(field));
    if (field.name == "output") outputs.push_back(tensor(field));
    if (field.name == "dynamic_batching") config.dynamic_batching = dynamic_batching(field);
    if (field.name == "version_policy") config.version_policy = version_policy(field);
    if (field.name == "ensemble_scheduling" || field.name == "sequence_batching") {
      fail(field, "is not supported: this server runs single models, without state");
    }
  }
  if (inputs.size() != 1 || outputs.size() != 1) {
    throw Error("a model must have one input and one output, got " + std::to_string(inputs.size()) +
                " and " + std::to_string(outputs.size()));
  }
  config.input = inputs.front();
  config.output = outputs.front();
  if (config.default_model_filename.find('/') != std::string::npos) {
    throw Error("default_model_filename must name a file in the version's folder, got '" +
                config.default_model_filename + "'");
  }
  check(config, name);
  config.name = name;
  return config;
}

ModelConfig default_model_config(const std::string& name) {
  ModelConfig config;
  config.name = name;
  config.max_batch_size = 16;
  config.input = {"INPUT__0", DataType::kUint8, {-1, -1, -1}, ""};
  config.output = {"OUTPUT__0", DataType::kFp32, {-1}, ""};
  config.dynamic_batching = DynamicBatching{std::chrono::microseconds(5000), 0, {}};
  return config;
}

}  // namespace labelassemble::serve
