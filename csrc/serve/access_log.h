// One line of JSON a request, written by a thread of its own so that a slow disk or a full pipe
// holds up nobody.
#pragma once

#include <prometheus/counter.h>

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace labelassemble::serve {

struct AccessEntry {
  std::string peer;
  std::string method;
  std::string target;
  int status = 0;
  std::string grpc_status;  // its name, over gRPC; `status` is then what HTTP would have said
  std::uint64_t request_bytes = 0;
  std::uint64_t response_bytes = 0;
  double duration_ms = 0;  // from the whole request read to the whole answer written
  // Of inference requests that were answered:
  std::string model;
  std::string version;
  std::string id;
  std::string traceparent;  // of W3C's trace context, as it came
  std::int64_t images = 0;
  std::int64_t batch = 0;  // images in the batch that they ran in
  double queue_ms = 0;
  double infer_ms = 0;
  std::string error;
};

// A header `traceparent` as it came, or "" where it is not of the form of W3C's trace context.
std::string checked_traceparent(std::string_view text);

// The time now, ISO 8601 with milliseconds, in UTC.
std::string timestamp();

class AccessLog {
 public:
  // A path, "-" for the standard output, or "none". `lost` counts the lines that could not be
  // written; `kind` names the log and that counter in messages. Throws Error when the file cannot
  // be opened.
  AccessLog(const std::string& where, prometheus::Counter& lost, std::string kind = "access");
  ~AccessLog();  // writes what is left
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  // When lines come faster than they can be written, some are lost, and a line says how many. That
  // the file takes no more, as on a full disk, is said once on the standard error.
  void write(const AccessEntry& entry);
  void write(std::string line);  // with its line feed

 private:
  struct Close {
    void operator()(std::FILE* file) const {
      if (file != stdout) std::fclose(file);
    }
  };

  void work();

  const std::string kind_;
  std::unique_ptr<std::FILE, Close> file_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
  std::size_t bytes_ = 0;  // of `lines_`
  std::uint64_t dropped_ = 0;
  prometheus::Counter& lost_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace labelassemble::serve
