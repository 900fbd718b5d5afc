// What the server says of a model: its metadata, and its configuration as Triton's JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model.h"

namespace labelassemble::serve {

nlohmann::json metadata_json(const Model& model, const std::vector<std::string>& versions);
nlohmann::json config_json(const Model& model);
nlohmann::json statistics_json(const Model& model);

}  // namespace labelassemble::serve
