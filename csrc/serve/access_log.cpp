#include "access_log.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "labelassemble/error.h"
#include "say.h"

namespace labelassemble::serve {
namespace {

constexpr std::size_t kMaxWaiting = std::size_t{4} << 20;  // bytes of lines
constexpr std::size_t kMaxText = 1024;                     // bytes of a target or an error

std::string shortened(const std::string& text) {
  return text.size() <= kMaxText ? text : text.substr(0, kMaxText) + "...";
}

double rounded(double value) { return std::round(value * 1000) / 1000; }

std::string line_of(const AccessEntry& entry) {
  nlohmann::ordered_json line{{"time", timestamp()},
                              {"peer", entry.peer},
                              {"method", entry.method},
                              {"target", shortened(entry.target)},
                              {"status", entry.status},
                              {"request_bytes", entry.request_bytes},
                              {"response_bytes", entry.response_bytes},
                              {"duration_ms", rounded(entry.duration_ms)}};
  if (!entry.grpc_status.empty()) line["grpc_status"] = entry.grpc_status;
  if (!entry.model.empty()) {
    line["model"] = entry.model;
    line["version"] = entry.version;
  }
  if (!entry.id.empty()) line["id"] = entry.id;
  if (!entry.traceparent.empty()) line["traceparent"] = entry.traceparent;
  if (entry.images > 0) line["images"] = entry.images;
  if (entry.batch > 0) {
    line["batch"] = entry.batch;
    line["queue_ms"] = rounded(entry.queue_ms);
    line["infer_ms"] = rounded(entry.infer_ms);
  }
  if (!entry.error.empty()) line["error"] = shortened(entry.error);
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string checked_traceparent(std::string_view text) {
  constexpr std::string_view kForm = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
  const auto fits = [](char c, char form) {
    return form == '-' ? c == '-' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  };
  return std::equal(text.begin(), text.end(), kForm.begin(), kForm.end(), fits) ? std::string(text)
                                                                                : "";
}

std::string timestamp() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  char whole[48];
  std::snprintf(whole, sizeof whole, "%s.%03dZ", text, static_cast<int>(milliseconds));
  return whole;
}

AccessLog::AccessLog(const std::string& where, prometheus::Counter& lost, std::string kind)
    : kind_(std::move(kind)), lost_(lost) {
  if (where == "none") return;
  file_.reset(where == "-" ? stdout : std::fopen(where.c_str(), "ae"));
  if (!file_) {
    throw Error(where + ": cannot be opened for the " + kind_ + " log (" + std::strerror(errno) +
                ")");
  }
  thread_ = std::thread([this] { work(); });
}

AccessLog::~AccessLog() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void AccessLog::write(const AccessEntry& entry) {
  if (file_) write(line_of(entry));
}

void AccessLog::write(std::string line) {
  if (!file_) return;
  {
    const std::lock_guard lock(mutex_);
    if (bytes_ + line.size() > kMaxWaiting) {
      ++dropped_;
      lost_.Increment();
      return;
    }
    bytes_ += line.size();
    lines_.push_back(std::move(line));
  }
  changed_.notify_one();
}

void AccessLog::work() {
  bool said = false;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return closing_ || !lines_.empty(); });
    if (lines_.empty()) return;
    std::vector<std::string> lines;
    lines.swap(lines_);
    bytes_ = 0;
    if (dropped_ > 0) lines.push_back("{\"dropped_lines\":" + std::to_string(dropped_) + "}\n");
    dropped_ = 0;
    lock.unlock();
    for (const std::string& line : lines) {
      errno = 0;
      const bool written = std::fwrite(line.data(), 1, line.size(), file_.get()) == line.size() &&
                           std::fflush(file_.get()) == 0;
      if (written) continue;
      const int reason = errno;
      std::clearerr(file_.get());
      lost_.Increment();
      if (said) continue;
      said = true;
      say("the " + kind_ + " log cannot be written (" + std::strerror(reason) +
          "): requests are answered, and labelassemble_" + kind_ +
          "_log_lost_lines_total counts their lines");
    }
    lock.lock();
  }
}

}  // namespace labelassemble::serve
