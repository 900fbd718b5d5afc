#include "score_log.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace labelassemble::serve {
namespace {

using nlohmann::ordered_json;

ordered_json line_of(const std::string& model, const std::string& version) {
  return {{"time", timestamp()}, {"model", model}, {"version", version}};
}

std::string text_of(const ordered_json& line) {
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

ScoreLog::ScoreLog(const std::string& where, prometheus::Counter& lost)
    : on_(where != "none"), log_(where, lost, "score") {}

void ScoreLog::answered(const std::string& model, const std::string& version,
                        const std::vector<std::string>& classes, std::span<const float> rows,
                        std::span<const float> values) {
  if (!on_ || rows.empty()) return;
  const std::size_t images = rows.size() / classes.size();
  const std::size_t size = values.size() / images;
  for (std::size_t i = 0; i < images; ++i) {
    double sum = 0;
    double squares = 0;
    for (const float value : values.subspan(i * size, size)) {
      sum += value;
      squares += double{value} * value;
    }
    const double mean = sum / static_cast<double>(size);
    const double variance = squares / static_cast<double>(size) - mean * mean;
    ordered_json line = line_of(model, version);
    line["brightness"] = mean;
    line["contrast"] = std::sqrt(std::max(0.0, variance));
    for (std::size_t c = 0; c < classes.size(); ++c) {
      line["scores"][classes[c]] = rows[i * classes.size() + c];
    }
    log_.write(text_of(line));
  }
}

void ScoreLog::unreadable(const std::string& model, const std::string& version) {
  if (!on_) return;
  ordered_json line = line_of(model, version);
  line["unreadable"] = true;
  log_.write(text_of(line));
}

}  // namespace labelassemble::serve
