// One version of a model, ready to answer: its network, its queue and what it counts.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <semaphore>
#include <string>
#include <vector>

#include "batcher.h"
#include "error.h"
#include "memory_budget.h"
#include "metrics.h"
#include "model_config.h"
#include "network.h"
#include "options.h"
#include "protocol.h"
#include "score_log.h"
#include "volume_network.h"

namespace labelassemble::serve {

// What all models of a process share.
struct Shared {
  const Options& options;
  Metrics& metrics;
  MemoryBudget& memory;
  std::counting_semaphore<>& compute;  // a batch runs only while it holds one
  ScoreLog& scores;
};

// A request on its way through a model. The body stays with it until its images are prepared, since
// its tensors point into it.
struct InferCall {
  std::vector<std::uint8_t> body;
  MemoryBudget::Charge charge;  // for all that the request holds
  InferRequest request;
  std::shared_ptr<const std::atomic<bool>> gone;  // the client has left
  Clock::time_point arrived = Clock::now();
  Clock::time_point deadline = Clock::time_point::max();  // of the client itself
};

// What becomes of it.
struct InferOutcome {
  std::optional<HttpError> error;
  std::vector<OutputTensor> outputs;
  std::int64_t images = 0;
  std::int64_t batch = 0;  // images in the batch that it ran in
  Clock::duration queue{};
  Clock::duration infer{};
  Held held;  // for `outputs` and what is sent of them, where they are large
};

class Model {
 public:
  // Loads and warms up. Throws Error: what is wrong with the files of this version.
  Model(ModelConfig config, std::string version, const std::filesystem::path& folder,
        const Shared& shared);
  ~Model();

  const ModelConfig& config() const { return config_; }
  const std::string& version() const { return version_; }
  const Description& describe() const {
    return volumes() ? volumes()->describe() : networks_.images->describe();
  }
  const VolumeNetwork* volumes() const { return networks_.volumes.get(); }  // null: one of images
  std::vector<TensorConfig> outputs() const;
  ModelMetrics& metrics() { return metrics_; }
  const ModelMetrics& metrics() const { return metrics_; }

  using Done = std::function<void(InferOutcome)>;
  // Checks, decodes and resizes on this thread, as long as the request has time and a client, then
  // queues; `done` is called exactly once, on another thread. Throws HttpError, and then `done` is
  // not called.
  void infer(InferCall call, Done done);

  // Finishes what is queued and takes no more.
  void close() { batcher_.close(); }

 private:
  class InferJob;
  using FileOutput = std::function<OutputTensor(const RequestedOutput&)>;

  struct Networks {  // one of the two
    std::unique_ptr<const Network> images;
    std::unique_ptr<const VolumeNetwork> volumes;
  };

  static Networks load(const ModelConfig& config, const std::filesystem::path& folder,
                       const std::string& device);
  Model(Networks networks, const ModelConfig& config, std::string version,
        const std::filesystem::path& folder, const Shared& shared);

  Clock::time_point deadline_of(const InferCall& call) const;
  void check_outputs(const InferRequest& request, std::size_t columns) const;
  static void check_volume_outputs(const InferRequest& request);
  void run(Batcher::Batch& batch, const std::function<void()>& computed);
  void run_volume(InferJob& job, const std::function<void()>& computed);
  std::vector<std::size_t> columns_of(const InferRequest& request) const;
  // `file_output` makes those that are no rows of numbers.
  std::vector<OutputTensor> outputs_of(const InferJob& job, std::span<const float> rows,
                                       const FileOutput& file_output = nullptr) const;
  OutputTensor file_output(const RequestedOutput& wanted, const InferJob& job,
                           const Segmentation& answer, const Interrupt& interrupt) const;
  OutputTensor classification(const RequestedOutput& wanted, const InferJob& job,
                              std::span<const float> rows) const;

  const Networks networks_;
  const ModelConfig config_;
  const std::string version_;
  const Shared shared_;
  ModelMetrics metrics_;
  Batcher batcher_;  // last: its thread uses all of the above
};

}  // namespace labelassemble::serve
