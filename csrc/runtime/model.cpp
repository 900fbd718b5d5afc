#include "model.h"

#include <ATen/Functions.h>

#include <algorithm>

namespace labelassemble {

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
