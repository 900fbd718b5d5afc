// Counters for Prometheus, under the names that Triton gives them.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace labelassemble::serve {

// What one version of a model counts. Its series remain when it is unloaded, as counters must.
struct ModelMetrics {
  prometheus::Counter* success = nullptr;
  prometheus::Counter* failure = nullptr;     // refused or failed, for another reason
  prometheus::Counter* rejected = nullptr;    // the queue was full
  prometheus::Counter* timed_out = nullptr;   // waited too long for its turn
  prometheus::Counter* canceled = nullptr;    // the client left
  prometheus::Counter* inferences = nullptr;  // images
  prometheus::Counter* executions = nullptr;  // batches
  prometheus::Counter* request_us = nullptr;
  prometheus::Counter* queue_us = nullptr;
  prometheus::Counter* input_us = nullptr;
  prometheus::Counter* infer_us = nullptr;
  prometheus::Counter* output_us = nullptr;
  prometheus::Gauge* pending = nullptr;
};

class Metrics {
 public:
  Metrics();

  ModelMetrics for_model(const std::string& model, const std::string& version);
  void count_response(int status);

  prometheus::Gauge& connections() { return *connections_; }
  prometheus::Gauge& request_memory() { return *request_memory_; }

  // In Prometheus' text format.
  std::string text() const;

 private:
  using Counters = prometheus::Family<prometheus::Counter>;
  using Gauges = prometheus::Family<prometheus::Gauge>;

  prometheus::Registry registry_;
  Counters& success_;
  Counters& failure_;
  Counters& inferences_;
  Counters& executions_;
  Counters& request_us_;
  Counters& queue_us_;
  Counters& input_us_;
  Counters& infer_us_;
  Counters& output_us_;
  Gauges& pending_;
  Counters& responses_;
  prometheus::Gauge* connections_;
  prometheus::Gauge* request_memory_;
  prometheus::Gauge* resident_;
};

}  // namespace labelassemble::serve
