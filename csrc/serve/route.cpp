#include "route.h"

namespace labelassemble::serve {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace

std::optional<std::vector<std::string>> split_path(std::string_view target) {
  target = target.substr(0, target.find('?'));
  if (target.empty() || target.front() != '/') return std::nullopt;
  std::vector<std::string> parts;
  while (!target.empty()) {
    target.remove_prefix(1);
    const std::size_t end = std::min(target.find('/'), target.size());
    const std::optional<std::string> part = decode(target.substr(0, end));
    if (!part) return std::nullopt;
    // "/v2/" is "/v2", and "//" is no path of ours.
    if (!part->empty()) parts.push_back(*part);
    if (part->empty() && end < target.size()) return std::nullopt;
    target.remove_prefix(end);
  }
  return parts;
}

std::optional<ModelPath> model_path(const std::vector<std::string>& parts) {
  if (parts.size() < 3 || parts[0] != "v2" || parts[1] != "models") return std::nullopt;
  ModelPath path;
  path.name = parts[2];
  std::size_t next = 3;
  if (parts.size() > next && parts[next] == "versions") {
    if (parts.size() == next + 1) return std::nullopt;
    path.version = parts[next + 1];
    next += 2;
  }
  for (; next < parts.size(); ++next) {
    path.action += (path.action.empty() ? "" : "/") + parts[next];
  }
  return path;
}

}  // namespace labelassemble::serve
