// What `labelassemble monitor` compares with the validation images: a line of JSON for each image
// that was answered, with its scores and two figures of what the network saw, and one for each
// image that could not be read. Neither images nor the ids of requests are in it.
#pragma once

#include <prometheus/counter.h>

#include <span>
#include <string>
#include <vector>

#include "access_log.h"

namespace labelassemble::serve {

class ScoreLog {
 public:
  // A path, "-" for the standard output, or "none". Throws Error when it cannot be opened.
  ScoreLog(const std::string& where, prometheus::Counter& lost);

  // `rows` holds the scores [images, classes], `values` the network's input [images, ...], 0..1.
  void answered(const std::string& model, const std::string& version,
                const std::vector<std::string>& classes, std::span<const float> rows,
                std::span<const float> values);
  void unreadable(const std::string& model, const std::string& version);

 private:
  const bool on_;
  AccessLog log_;
};

}  // namespace labelassemble::serve
