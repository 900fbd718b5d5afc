#include "entries.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "labelassemble/error.h"

namespace labelassemble {
namespace {

template <typename T>
T parse(const std::string& text, const std::string& name, const std::filesystem::path& path) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Error(path.string() + ": damaged description of the model (" + name + " is '" + text +
                "')");
  }
  return value;
}

template <typename T>
std::vector<T> parse_lines(const Entries& entries, const std::string& name,
                           const std::filesystem::path& path) {
  std::vector<T> values;
  for (const std::string& line : lines(entries, name, path))
    values.push_back(parse<T>(line, name, path));
  return values;
}

}  // namespace

const std::string& entry(const Entries& entries, const std::string& name,
                         const std::filesystem::path& path) {
  const auto found = entries.find("labelassemble." + name);
  if (found == entries.end()) {
    throw Error(path.string() + ": damaged description of the model (no " + name + ")");
  }
  return found->second;
}

std::int64_t whole_number(const Entries& entries, const std::string& name,
                          const std::filesystem::path& path) {
  return parse<std::int64_t>(entry(entries, name, path), name, path);
}

double number(const Entries& entries, const std::string& name, const std::filesystem::path& path) {
  return parse<double>(entry(entries, name, path), name, path);
}

std::vector<std::string> lines(const Entries& entries, const std::string& name,
                               const std::filesystem::path& path) {
  const std::string& text = entry(entries, name, path);
  std::vector<std::string> values;
  for (std::size_t start = 0; !text.empty() && start <= text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    values.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return values;
}

std::vector<double> numbers(const Entries& entries, const std::string& name,
                            const std::filesystem::path& path) {
  return parse_lines<double>(entries, name, path);
}

std::vector<std::int64_t> whole_numbers(const Entries& entries, const std::string& name,
                                        const std::filesystem::path& path) {
  return parse_lines<std::int64_t>(entries, name, path);
}

}  // namespace labelassemble
