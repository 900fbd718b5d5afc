#include "statistics.h"

namespace labelassemble::serve {

void Statistics::Total::add(Duration duration) {
  ++count;
  ns += static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count());
}

nlohmann::json Statistics::Total::to_json() const { return {{"count", count}, {"ns", ns}}; }

void Statistics::success(Duration whole, Duration output) {
  const std::lock_guard lock(mutex_);
  success_.add(whole);
  output_.add(output);
}

void Statistics::failure() {
  const std::lock_guard lock(mutex_);
  fail_.add({});
}

void Statistics::queued(Duration waited) {
  const std::lock_guard lock(mutex_);
  queue_.add(waited);
}

void Statistics::prepared(Duration input) {
  const std::lock_guard lock(mutex_);
  input_.add(input);
}

void Statistics::executed(std::int64_t images, Duration infer) {
  const std::lock_guard lock(mutex_);
  inferences_ += static_cast<std::uint64_t>(images);
  ++executions_;
  infer_.add(infer);
  batches_[images].add(infer);
  last_ms_ = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                            std::chrono::system_clock::now().time_since_epoch())
                                            .count());
}

nlohmann::json Statistics::to_json() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json batches = nlohmann::json::array();
  for (const auto& [size, total] : batches_) {
    batches.push_back({{"batch_size", size}, {"compute_infer", total.to_json()}});
  }
  return {{"last_inference", last_ms_},
          {"inference_count", inferences_},
          {"execution_count", executions_},
          {"inference_stats",
           {{"success", success_.to_json()},
            {"fail", fail_.to_json()},
            {"queue", queue_.to_json()},
            {"compute_input", input_.to_json()},
            {"compute_infer", infer_.to_json()},
            {"compute_output", output_.to_json()}}},
          {"batch_stats", batches}};
}

}  // namespace labelassemble::serve
