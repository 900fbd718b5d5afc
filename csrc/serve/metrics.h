// Counters for Prometheus, under the names that Triton gives them.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

namespace labelassemble::serve {

// What one version of a model counts: the series of Prometheus, which remain when it is unloaded,
// as counters must, and Triton's statistics of a model (/v2/models/.../stats), which begin anew.
class ModelMetrics {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // The series, all of which a model has.
  struct Series {
    prometheus::Counter* success;
    prometheus::Counter* failure;     // refused or failed, for another reason
    prometheus::Counter* rejected;    // the queue was full
    prometheus::Counter* timed_out;   // waited too long for its turn
    prometheus::Counter* canceled;    // the client left
    prometheus::Counter* inferences;  // images
    prometheus::Counter* executions;  // batches
    prometheus::Counter* request_us;
    prometheus::Counter* queue_us;
    prometheus::Counter* input_us;
    prometheus::Counter* infer_us;
    prometheus::Counter* output_us;
    prometheus::Gauge* pending;
    prometheus::Histogram* request_s;
    prometheus::Histogram* queue_s;
    prometheus::Histogram* batch_images;
  };
  explicit ModelMetrics(const Series& series) : series_(series) {}

  // A request joins those that wait or run, or leaves them.
  void pending(int change) { series_.pending->Increment(change); }
  // A batch ran: how long it took to put together, to run, and to take apart.
  void executed(std::int64_t images, Duration input, Duration infer, Duration output);
  // One of its requests: how long it took to read, waited for its turn, and how long the batch ran.
  void computed(Duration input, Duration queue, Duration infer);
  // The answer was written.
  void succeeded(Duration whole, Duration output);
  // By the status of the answer.
  void failed(int status, Duration whole);

  // The members of Triton's ModelStatistics, without name and version.
  nlohmann::json statistics() const;

 private:
  struct Total {
    std::uint64_t count = 0;
    std::uint64_t ns = 0;
    void add(Duration duration);
    nlohmann::json to_json() const;
  };

  const Series series_;
  mutable std::mutex mutex_;
  std::uint64_t inferences_ = 0;
  std::uint64_t last_ms_ = 0;
  Total success_;
  Total fail_;
  Total queue_;
  Total input_;
  Total infer_;
  Total output_;
  struct Batches {
    Total input;
    Total infer;
    Total output;
  };
  std::uint64_t executions_ = 0;
  std::map<std::int64_t, Batches> batches_;  // by their number of images
};

class Metrics {
 public:
  Metrics();

  ModelMetrics for_model(const std::string& model, const std::string& version);
  void count_response(int status);
  void count_grpc_response(const std::string& status);  // by its name

  prometheus::Gauge& connections() { return connections_; }
  prometheus::Gauge& grpc_connections() { return grpc_connections_; }
  prometheus::Gauge& grpc_calls() { return grpc_calls_; }
  prometheus::Gauge& request_memory() { return request_memory_; }
  prometheus::Gauge& request_memory_limit() { return request_memory_limit_; }
  prometheus::Counter& lost_access_lines() { return lost_access_lines_; }
  prometheus::Counter& lost_score_lines() { return lost_score_lines_; }

  // In Prometheus' text format.
  std::string text() const;

 private:
  using Labels = prometheus::Labels;

  // A series of the family of that name, which the first one makes.
  prometheus::Counter& counter(const char* name, const char* help, const Labels& labels = {});
  prometheus::Gauge& gauge(const char* name, const char* help, const Labels& labels = {});

  prometheus::Registry registry_;
  prometheus::Gauge& connections_;
  prometheus::Gauge& grpc_connections_;
  prometheus::Gauge& grpc_calls_;
  prometheus::Gauge& request_memory_;
  prometheus::Gauge& request_memory_limit_;
  prometheus::Gauge& resident_;
  prometheus::Counter& lost_access_lines_;
  prometheus::Counter& lost_score_lines_;
};

}  // namespace labelassemble::serve
