#include "metrics.h"

#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace labelassemble::serve {
namespace {

// Upper ends of the buckets: seconds, and images.
const prometheus::Histogram::BucketBoundaries kSeconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                                       0.25,  0.5,    1,     2.5,  5,     10,   30};
const prometheus::Histogram::BucketBoundaries kImages{1, 2, 4, 8, 16, 32, 64, 128};

double seconds_of(ModelMetrics::Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages >> pages;
  return pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double microseconds_of(ModelMetrics::Duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

}  // namespace

void ModelMetrics::Total::add(Duration duration) {
  ++count;
  ns += static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count());
}

nlohmann::json ModelMetrics::Total::to_json() const { return {{"count", count}, {"ns", ns}}; }

void ModelMetrics::executed(std::int64_t images, Duration input, Duration infer, Duration output) {
  series_.executions->Increment();
  series_.batch_images->Observe(static_cast<double>(images));
  series_.inferences->Increment(static_cast<double>(images));
  const std::lock_guard lock(mutex_);
  inferences_ += static_cast<std::uint64_t>(images);
  ++executions_;
  Batches& alike = batches_[images];
  alike.input.add(input);
  alike.infer.add(infer);
  alike.output.add(output);
  last_ms_ = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                            std::chrono::system_clock::now().time_since_epoch())
                                            .count());
}

void ModelMetrics::computed(Duration input, Duration queue, Duration infer) {
  series_.input_us->Increment(microseconds_of(input));
  series_.queue_us->Increment(microseconds_of(queue));
  series_.infer_us->Increment(microseconds_of(infer));
  series_.queue_s->Observe(seconds_of(queue));
  const std::lock_guard lock(mutex_);
  input_.add(input);
  queue_.add(queue);
  infer_.add(infer);
}

void ModelMetrics::succeeded(Duration whole, Duration output) {
  series_.success->Increment();
  series_.request_us->Increment(microseconds_of(whole));
  series_.request_s->Observe(seconds_of(whole));
  series_.output_us->Increment(microseconds_of(output));
  const std::lock_guard lock(mutex_);
  success_.add(whole);
  output_.add(output);
}

void ModelMetrics::failed(int status, Duration whole) {
  (status == 503   ? series_.rejected
   : status == 504 ? series_.timed_out
   : status == 499 ? series_.canceled
                   : series_.failure)
      ->Increment();
  const std::lock_guard lock(mutex_);
  fail_.add(whole);
}

nlohmann::json ModelMetrics::statistics() const {
  const std::lock_guard lock(mutex_);
  nlohmann::json batches = nlohmann::json::array();
  for (const auto& [size, total] : batches_) {
    batches.push_back({{"batch_size", size},
                       {"compute_input", total.input.to_json()},
                       {"compute_infer", total.infer.to_json()},
                       {"compute_output", total.output.to_json()}});
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

prometheus::Counter& Metrics::counter(const char* name, const char* help, const Labels& labels) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(labels);
}

prometheus::Gauge& Metrics::gauge(const char* name, const char* help, const Labels& labels) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add(labels);
}

Metrics::Metrics()
    : connections_(gauge("labelassemble_http_connections", "Open connections")),
      grpc_connections_(gauge("labelassemble_grpc_connections", "Open connections of gRPC")),
      grpc_calls_(gauge("labelassemble_grpc_calls", "Calls of gRPC under way")),
      request_memory_(
          gauge("labelassemble_request_memory_bytes", "Bytes that all requests hold together")),
      request_memory_limit_(gauge("labelassemble_request_memory_limit_bytes",
                                  "Bytes that all requests together may hold (--max-memory)")),
      resident_(gauge("nv_cpu_memory_used_bytes", "Resident memory of this process in bytes")),
      lost_access_lines_(counter("labelassemble_access_log_lost_lines_total",
                                 "Lines of the access log that could not be written")),
      lost_score_lines_(counter("labelassemble_score_log_lost_lines_total",
                                "Lines of the score log that could not be written")) {
  gauge("labelassemble_build_info", "1; the labels say what this program is",
        {{"version", LABELASSEMBLE_VERSION}})
      .Set(1);
}

ModelMetrics Metrics::for_model(const std::string& model, const std::string& version) {
  const Labels labels{{"model", model}, {"version", version}};
  const auto count = [&](const char* name, const char* help) {
    return &counter(name, help, labels);
  };
  const auto failed = [&](const char* reason) {
    return &counter("nv_inference_request_failure",
                    "Number of failed inference requests, by reason",
                    {{"model", model}, {"version", version}, {"reason", reason}});
  };
  const auto histogram = [&](const char* name, const char* help, const auto& buckets) {
    return &prometheus::BuildHistogram().Name(name).Help(help).Register(registry_).Add(labels,
                                                                                       buckets);
  };
  return ModelMetrics({
      .success = count("nv_inference_request_success",
                       "Number of successful inference requests, all batch sizes"),
      .failure = failed("OTHER"),
      .rejected = failed("REJECTED"),
      .timed_out = failed("TIMEOUT"),
      .canceled = failed("CANCELED"),
      .inferences = count("nv_inference_count", "Number of inferences (images)"),
      .executions = count("nv_inference_exec_count", "Number of batches that the model ran"),
      .request_us = count("nv_inference_request_duration_us",
                          "Cumulative time of inference requests in microseconds"),
      .queue_us = count("nv_inference_queue_duration_us",
                        "Cumulative time that requests waited for their turn in microseconds"),
      .input_us = count("nv_inference_compute_input_duration_us",
                        "Cumulative time of preparing inputs in microseconds"),
      .infer_us = count("nv_inference_compute_infer_duration_us",
                        "Cumulative time of running the model in microseconds"),
      .output_us = count("nv_inference_compute_output_duration_us",
                         "Cumulative time of writing answers in microseconds"),
      .pending = &gauge("nv_inference_pending_request_count",
                        "Number of requests that wait for their turn", labels),
      .request_s =
          histogram("labelassemble_request_duration_seconds",
                    "Time of successful inference requests, from whole to answered", kSeconds),
      .queue_s = histogram("labelassemble_queue_duration_seconds",
                           "Time that requests waited for their turn", kSeconds),
      .batch_images = histogram("labelassemble_batch_images",
                                "Images of the batches that the model ran", kImages),
  });
}

void Metrics::count_response(int status) {
  counter("labelassemble_http_responses_total", "Number of HTTP responses, by status",
          {{"status", std::to_string(status)}})
      .Increment();
}

void Metrics::count_grpc_response(const std::string& status) {
  counter("labelassemble_grpc_responses_total",
          "Number of gRPC answers, by status; of a stream, each counts", {{"status", status}})
      .Increment();
}

std::string Metrics::text() const {
  resident_.Set(resident_bytes());
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, registry_.Collect());
  return out.str();
}

}  // namespace labelassemble::serve
