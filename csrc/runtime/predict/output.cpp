#include "output.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <ostream>
#include <string_view>

#include "json.h"

namespace labelassemble::predict {
namespace {

template <typename T, typename F>
void list(std::ostream& out, const std::vector<T>& values, F write) {
  out << "[";
  for (std::size_t i = 0; i < values.size(); ++i) out << (i == 0 ? "" : ", ") << write(values[i]);
  out << "]";
}

// JSON has no number for what is never reached.
std::string json_threshold(double value) {
  if (std::isnan(value)) return "null";
  return std::isinf(value) ? json_string("Infinity") : json_number(value);
}

char mark_of(const Answers& answers, std::size_t c, float value) {
  if (answers.thresholds.empty()) return ' ';
  if (std::isnan(answers.thresholds[c])) return '?';
  return value >= answers.thresholds[c] ? '*' : ' ';
}

void print_json(std::ostream& out, const Answers& answers) {
  const std::size_t classes = answers.classes.size();
  out << "{\n  \"classes\": ";
  list(out, answers.classes, json_string);
  out << ",\n  \"thresholds\": ";
  if (answers.thresholds.empty()) {
    out << "null";
  } else {
    list(out, answers.thresholds, json_threshold);
  }
  out << ",\n  \"" << answers.row << "s\": [";
  for (std::size_t i = 0; i < answers.paths.size(); ++i) {
    out << (i == 0 ? "" : ",") << "\n    {\"path\": " << json_string(answers.paths[i]) << ", \""
        << answers.values << "\": {";
    for (std::size_t c = 0; c < classes; ++c) {
      out << (c == 0 ? "" : ", ") << json_string(answers.classes[c]) << ": "
          << json_number(answers.numbers[i * classes + c]);
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

void print_csv(std::ostream& out, const Answers& answers) {
  const std::size_t classes = answers.classes.size();
  out << "path";
  for (const std::string& name : answers.classes)
    out << "," << csv_cell(answers.value + ":" + name);
  out << "\n";
  for (std::size_t i = 0; i < answers.paths.size(); ++i) {
    out << csv_cell(answers.paths[i]);
    for (std::size_t c = 0; c < classes; ++c)
      out << "," << json_number(answers.numbers[i * classes + c]);
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

void print_table(std::ostream& out, const Answers& answers) {
  const std::size_t classes = answers.classes.size();
  std::size_t first = width(answers.row);
  for (const std::string& path : answers.paths) first = std::max(first, width(path));
  out << answers.row;
  pad(out, first - width(answers.row));
  for (const std::string& name : answers.classes) {
    out << "  ";
    pad(out, 7 - std::min<std::size_t>(7, width(name)));
    out << name;
  }
  out << "\n";
  for (std::size_t i = 0; i < answers.paths.size(); ++i) {
    out << answers.paths[i];
    pad(out, first - width(answers.paths[i]));
    for (std::size_t c = 0; c < classes; ++c) {
      const float value = answers.numbers[i * classes + c];
      char cell[16];
      std::snprintf(cell, sizeof cell, "%.4f%c", value, mark_of(answers, c, value));
      out << "  ";
      pad(out, std::max<std::size_t>(7, width(answers.classes[c])) - 7);
      out << cell;
    }
    out << "\n";
  }
}

}  // namespace

void print(std::ostream& out, Format format, const Answers& answers) {
  switch (format) {
    case Format::kTable:
      return print_table(out, answers);
    case Format::kJson:
      return print_json(out, answers);
    case Format::kCsv:
      return print_csv(out, answers);
  }
}

}  // namespace labelassemble::predict
