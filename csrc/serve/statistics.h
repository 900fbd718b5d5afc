// What /v2/models/.../stats says of a model: Triton's inference statistics.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>

namespace labelassemble::serve {

class Statistics {
 public:
  using Duration = std::chrono::steady_clock::duration;

  void success(Duration whole, Duration output);
  void failure();
  void queued(Duration waited);
  void prepared(Duration input);
  void executed(std::int64_t images, Duration infer);

  // The members of Triton's ModelStatistics, without name and version.
  nlohmann::json to_json() const;

 private:
  struct Total {
    std::uint64_t count = 0;
    std::uint64_t ns = 0;
    void add(Duration duration);
    nlohmann::json to_json() const;
  };

  mutable std::mutex mutex_;
  std::uint64_t inferences_ = 0;
  std::uint64_t executions_ = 0;
  std::uint64_t last_ms_ = 0;
  Total success_;
  Total fail_;
  Total queue_;
  Total input_;
  Total infer_;
  Total output_;
  std::map<std::int64_t, Total> batches_;  // by their number of images
};

}  // namespace labelassemble::serve
