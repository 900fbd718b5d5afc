#include "model.h"

#include <ATen/Functions.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <fstream>

#include "processor.h"

namespace labelassemble {

std::string shape(at::IntArrayRef sizes) {
  std::string text = "[";
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(sizes[i]);
  }
  return text + "]";
}

at::Device parse_device(const std::string& device) {
  at::Device parsed(at::kCPU);
  try {
    parsed = at::Device(device);
  } catch (const c10::Error&) {
    throw Error("device must be cpu, cuda or cuda:N, got '" + device + "'");
  }
  if (!parsed.is_cpu() && !parsed.is_cuda()) {
    throw Error("device must be cpu, cuda or cuda:N, got '" + device + "'");
  }
  if (parsed.is_cuda() && !at::hasCUDA()) {
    throw Error("device " + device + " is not here: this libtorch was built without CUDA");
  }
  return parsed;
}

bool is_package(const std::filesystem::path& path) {
  const std::string missing = missing_capability();
  if (!missing.empty()) throw Error(missing);
  const bool package = path.extension() == ".pt2";
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw Error(path.string() + ": no such model");
  if (!std::filesystem::is_regular_file(status)) {
    throw Error(path.string() + ": a model must be a regular file");
  }
  char magic[4] = {};
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(path.string() + ": cannot be opened");
  file.read(magic, sizeof magic);
  if (std::string_view(magic, sizeof magic) != "PK\x03\x04") {
    throw Error(path.string() +
                (package ? ": not an AOTInductor package" : ": not a TorchScript file"));
  }
  return package;
}

at::Tensor Model::classify(const at::Tensor& prepared,
                           const std::vector<std::string>& classes) const {
  std::vector<std::int64_t> columns;
  for (const std::string& name : classes) columns.push_back(column_of(description_, name));
  const at::Tensor all = classify(prepared);
  return all.index_select(1, at::tensor(columns, all.options().dtype(at::kLong)));
}

void check_description(const Description& description, const std::filesystem::path& path) {
  const std::size_t thresholds = description.thresholds.size();
  if (description.classes.empty() ||
      (thresholds != 0 && thresholds != description.classes.size())) {
    throw Error(path.string() + ": damaged description of the model (" +
                std::to_string(description.classes.size()) + " classes and " +
                std::to_string(thresholds) + " thresholds)");
  }
  if ((description.channels != 1 && description.channels != 3) || description.size < 1) {
    throw Error(path.string() + ": damaged description of the model (" +
                std::to_string(description.channels) + " channels and size " +
                std::to_string(description.size) + ")");
  }
}

void check_format(std::int64_t format, const std::filesystem::path& path) {
  if (format != kFormat) {
    throw Error(path.string() + ": format " + std::to_string(format) +
                " of labelassemble's models, and this library reads format " +
                std::to_string(kFormat));
  }
}

void throw_answers_voxels(const std::filesystem::path& path) {
  throw AnswersVoxels(path.string() +
                      ": a model that answers the voxels of volumes, and images were to be "
                      "classified: give it a volume (.nii, .nii.gz)");
}

void throw_not_exported(const std::filesystem::path& path) {
  throw Error(
      path.string() +
      ": not exported by labelassemble (it carries no class names and no input description)");
}

std::int64_t column_of(const Description& description, const std::string& name) {
  const auto found = std::find(description.classes.begin(), description.classes.end(), name);
  if (found == description.classes.end()) throw Error("the model has no class '" + name + "'");
  return found - description.classes.begin();
}

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

std::string last_line(std::string_view text) {
  const std::size_t end = text.find_last_not_of(" \n");
  if (end == std::string_view::npos) return "no reason given";
  text = text.substr(0, end + 1);
  const std::size_t start = text.rfind('\n');
  return std::string(start == std::string_view::npos ? text : text.substr(start + 1));
}

}  // namespace labelassemble
