#include "model_json.h"

#include <cmath>

namespace labelassemble::serve {
namespace {

using nlohmann::json;

std::vector<std::int64_t> whole_shape(const ModelConfig& config, const TensorConfig& tensor) {
  std::vector<std::int64_t> shape = tensor.dims;
  if (config.max_batch_size > 0) shape.insert(shape.begin(), -1);
  return shape;
}

json tensor_metadata(const ModelConfig& config, const TensorConfig& tensor) {
  return {{"name", tensor.name},
          {"datatype", name_of(tensor.type)},
          {"shape", whole_shape(config, tensor)}};
}

// A network takes grey and colour, whichever it was trained with, unless config.pbtxt allows one.
json channels_json(const ModelConfig& config) {
  const std::size_t place = config.max_batch_size > 0 ? 0 : 1;
  const std::vector<std::int64_t>& dims = config.input.dims;
  if (config.input.type == DataType::kBytes || place >= dims.size() || dims[place] == -1) {
    return json::array({1, 3});
  }
  return json::array({dims[place]});
}

// One a class: null where none could be chosen, "Infinity" where nothing is called positive.
json thresholds_json(const Description& description) {
  json thresholds = json::array();
  for (const double value : description.thresholds) {
    if (std::isinf(value)) {
      thresholds.push_back("Infinity");
    } else {
      thresholds.push_back(std::isnan(value) ? json() : json(value));
    }
  }
  return thresholds;
}

const std::string& platform_of(const ModelConfig& config) {
  static const std::string usual = "pytorch_libtorch";
  return config.platform.empty() ? usual : config.platform;
}

json policy_json(const VersionPolicy& policy) {
  if (policy.kind == VersionPolicy::Kind::kAll) return {{"all", json::object()}};
  if (policy.kind == VersionPolicy::Kind::kSpecific) {
    return {{"specific", {{"versions", policy.specific}}}};
  }
  return {{"latest", {{"num_versions", policy.latest}}}};
}

}  // namespace

json metadata_json(const Model& model, const std::vector<std::string>& versions) {
  const ModelConfig& config = model.config();
  const Description& description = model.describe();
  json parameters{{"classes", description.classes},
                  {"interest", description.interest},
                  {"thresholds", thresholds_json(description)},
                  {"exported_by", "labelassemble " + description.library}};
  if (model.volumes() != nullptr) {
    const SegmenterDescription& volumes = model.volumes()->segmenter();
    parameters["patch"] = volumes.patch;
    parameters["overlap"] = volumes.overlap;
    parameters["spacing"] = volumes.spacing;
    parameters["window"] = volumes.window;
    parameters["mask_threshold"] = volumes.threshold;
  } else {
    parameters["image_channels"] = channels_json(config);
    parameters["input_channels"] = description.channels;
    parameters["input_size"] = description.size;
  }
  json outputs = json::array();
  for (TensorConfig output : model.outputs()) {
    if (output.type == DataType::kFp32) {
      output.dims.back() = static_cast<std::int64_t>(description.classes.size());
    }
    outputs.push_back(tensor_metadata(config, output));
  }
  return {{"name", config.name},
          {"versions", versions},
          {"platform", platform_of(config)},
          {"inputs", {tensor_metadata(config, config.input)}},
          {"outputs", outputs},
          {"parameters", parameters}};
}

json config_json(const Model& model) {
  const ModelConfig& config = model.config();
  json input{{"name", config.input.name},
             {"data_type", config_name_of(config.input.type)},
             {"dims", config.input.dims}};
  json outputs = json::array();
  for (const TensorConfig& output : model.outputs()) {
    outputs.push_back({{"name", output.name},
                       {"data_type", config_name_of(output.type)},
                       {"dims", output.dims},
                       {"label_filename", output.label_filename}});
  }
  json out{{"name", config.name},
           {"platform", platform_of(config)},
           {"backend", "pytorch"},
           {"version_policy", policy_json(config.version_policy)},
           {"max_batch_size", config.max_batch_size},
           {"input", json::array({input})},
           {"output", outputs},
           {"default_model_filename",
            config.default_model_filename.empty() ? "model.pt" : config.default_model_filename}};
  if (config.dynamic_batching) {
    const DynamicBatching& batching = *config.dynamic_batching;
    out["dynamic_batching"] = {
        {"max_queue_delay_microseconds", batching.max_queue_delay.count()},
        {"default_queue_policy",
         {{"max_queue_size", batching.max_queue_size},
          {"default_timeout_microseconds", batching.default_timeout.count()}}}};
  }
  return out;
}

json statistics_json(const Model& model) {
  json statistics = model.metrics().statistics();
  statistics["name"] = model.config().name;
  statistics["version"] = model.version();
  return statistics;
}

}  // namespace labelassemble::serve
