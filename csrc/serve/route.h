// The path of a request, taken apart.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace labelassemble::serve {

// "/v2/models/a%20b?x=1" gives {"v2", "models", "a b"}. Nothing for a path that is malformed.
std::optional<std::vector<std::string>> split_path(std::string_view target);

// What a path under v2/models asks for.
struct ModelPath {
  std::string name;
  std::string version;  // empty: the newest
  std::string action;   // empty: metadata
};

// From {"v2", "models", NAME[, "versions", V][, ACTION...]}; nothing for another form.
std::optional<ModelPath> model_path(const std::vector<std::string>& parts);

}  // namespace labelassemble::serve
