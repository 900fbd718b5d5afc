#include "output.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <ostream>
#include <string_view>

#include "json.h"

namespace labelassemble::predict {
namespace {

using Names = std::vector<std::string>;
using Values = std::vector<float>;

template <typename T, typename F>
void list(std::ostream& out, const std::vector<T>& values, F write) {
  out << "[";
  for (std::size_t i = 0; i < values.size(); ++i) out << (i == 0 ? "" : ", ") << write(values[i]);
  out << "]";
}

void print_json(std::ostream& out, const Description& model, const Names& images,
                const Values& values) {
  const std::size_t classes = model.classes.size();
  out << "{\n  \"classes\": ";
  list(out, model.classes, json_string);
  out << ",\n  \"thresholds\": ";
  if (model.thresholds.empty()) {
    out << "null";
  } else {
    list(out, model.thresholds, [](double value) { return json_number(value); });
  }
  out << ",\n  \"images\": [";
  for (std::size_t i = 0; i < images.size(); ++i) {
    out << (i == 0 ? "" : ",") << "\n    {\"path\": " << json_string(images[i])
        << ", \"probabilities\": {";
    for (std::size_t c = 0; c < classes; ++c) {
      out << (c == 0 ? "" : ", ") << json_string(model.classes[c]) << ": "
          << json_number(values[i * classes + c]);
    }
    out << "}}";
  }
  out << "\n  ]\n}\n";
}

// RFC 4180: quoted where it holds a comma, a quote or a line end.
std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

void print_csv(std::ostream& out, const Description& model, const Names& images,
               const Values& values) {
  const std::size_t classes = model.classes.size();
  out << "path";
  for (const std::string& name : model.classes) out << "," << csv_cell("probability:" + name);
  out << "\n";
  for (std::size_t i = 0; i < images.size(); ++i) {
    out << csv_cell(images[i]);
    for (std::size_t c = 0; c < classes; ++c) out << "," << json_number(values[i * classes + c]);
    out << "\n";
  }
}

// Characters, not bytes: UTF-8 continuation bytes take no room.
std::size_t width(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

void pad(std::ostream& out, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) out << ' ';
}

void print_table(std::ostream& out, const Description& model, const Names& images,
                 const Values& values) {
  const std::size_t classes = model.classes.size();
  std::size_t first = width("image");
  for (const std::string& image : images) first = std::max(first, width(image));
  out << "image";
  pad(out, first - width("image"));
  for (const std::string& name : model.classes) {
    out << "  ";
    pad(out, 7 - std::min<std::size_t>(7, width(name)));
    out << name;
  }
  out << "\n";
  for (std::size_t i = 0; i < images.size(); ++i) {
    out << images[i];
    pad(out, first - width(images[i]));
    for (std::size_t c = 0; c < classes; ++c) {
      const float value = values[i * classes + c];
      const bool positive = !model.thresholds.empty() && value >= model.thresholds[c];
      char cell[16];
      std::snprintf(cell, sizeof cell, "%.4f%c", value, positive ? '*' : ' ');
      out << "  ";
      pad(out, std::max<std::size_t>(7, width(model.classes[c])) - 7);
      out << cell;
    }
    out << "\n";
  }
}

}  // namespace

void print(std::ostream& out, Format format, const Description& model, const Names& images,
           const Values& probabilities) {
  switch (format) {
    case Format::kTable:
      return print_table(out, model, images, probabilities);
    case Format::kJson:
      return print_json(out, model, images, probabilities);
    case Format::kCsv:
      return print_csv(out, model, images, probabilities);
  }
}

}  // namespace labelassemble::predict
