#include "metrics.h"

#include <prometheus/text_serializer.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace labelassemble::serve {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::Labels;

auto& counters(prometheus::Registry& registry, const char* name, const char* help) {
  return BuildCounter().Name(name).Help(help).Register(registry);
}

auto& gauges(prometheus::Registry& registry, const char* name, const char* help) {
  return BuildGauge().Name(name).Help(help).Register(registry);
}

double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages >> pages;
  return pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

}  // namespace

Metrics::Metrics()
    : success_(counters(registry_, "nv_inference_request_success",
                        "Number of successful inference requests, all batch sizes")),
      failure_(counters(registry_, "nv_inference_request_failure",
                        "Number of failed inference requests, by reason")),
      inferences_(counters(registry_, "nv_inference_count", "Number of inferences (images)")),
      executions_(
          counters(registry_, "nv_inference_exec_count", "Number of batches that the model ran")),
      request_us_(counters(registry_, "nv_inference_request_duration_us",
                           "Cumulative time of inference requests in microseconds")),
      queue_us_(counters(registry_, "nv_inference_queue_duration_us",
                         "Cumulative time that requests waited for their turn in microseconds")),
      input_us_(counters(registry_, "nv_inference_compute_input_duration_us",
                         "Cumulative time of preparing inputs in microseconds")),
      infer_us_(counters(registry_, "nv_inference_compute_infer_duration_us",
                         "Cumulative time of running the model in microseconds")),
      output_us_(counters(registry_, "nv_inference_compute_output_duration_us",
                          "Cumulative time of writing answers in microseconds")),
      pending_(gauges(registry_, "nv_inference_pending_request_count",
                      "Number of requests that wait for their turn")),
      responses_(counters(registry_, "labelassemble_http_responses_total",
                          "Number of HTTP responses, by status")),
      connections_(
          &gauges(registry_, "labelassemble_http_connections", "Open connections").Add({})),
      request_memory_(&gauges(registry_, "labelassemble_request_memory_bytes",
                              "Bytes of bodies and decoded images that requests hold")
                           .Add({})),
      resident_(
          &gauges(registry_, "nv_cpu_memory_used_bytes", "Resident memory of this process in bytes")
               .Add({})) {}

ModelMetrics Metrics::for_model(const std::string& model, const std::string& version) {
  const Labels labels{{"model", model}, {"version", version}};
  const auto failed = [&](const char* reason) {
    return &failure_.Add({{"model", model}, {"version", version}, {"reason", reason}});
  };
  ModelMetrics metrics;
  metrics.success = &success_.Add(labels);
  metrics.failure = failed("OTHER");
  metrics.rejected = failed("REJECTED");
  metrics.timed_out = failed("TIMEOUT");
  metrics.canceled = failed("CANCELED");
  metrics.inferences = &inferences_.Add(labels);
  metrics.executions = &executions_.Add(labels);
  metrics.request_us = &request_us_.Add(labels);
  metrics.queue_us = &queue_us_.Add(labels);
  metrics.input_us = &input_us_.Add(labels);
  metrics.infer_us = &infer_us_.Add(labels);
  metrics.output_us = &output_us_.Add(labels);
  metrics.pending = &pending_.Add(labels);
  return metrics;
}

void Metrics::count_response(int status) {
  responses_.Add({{"status", std::to_string(status)}}).Increment();
}

std::string Metrics::text() const {
  resident_->Set(resident_bytes());
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, registry_.Collect());
  return out.str();
}

}  // namespace labelassemble::serve
