#include "access_log.h"

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "labelassemble/error.h"

namespace labelassemble::serve {
namespace {

constexpr std::size_t kMaxLines = 10'000;

// ISO 8601 with milliseconds, in UTC.
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

double rounded(double value) { return std::round(value * 1000) / 1000; }

std::string line_of(const AccessEntry& entry) {
  nlohmann::ordered_json line{{"time", timestamp()},
                              {"peer", entry.peer},
                              {"method", entry.method},
                              {"target", entry.target},
                              {"status", entry.status},
                              {"request_bytes", entry.request_bytes},
                              {"response_bytes", entry.response_bytes},
                              {"duration_ms", rounded(entry.duration_ms)}};
  if (!entry.model.empty()) {
    line["model"] = entry.model;
    line["version"] = entry.version;
  }
  if (!entry.id.empty()) line["id"] = entry.id;
  if (entry.images > 0) line["images"] = entry.images;
  if (entry.batch > 0) {
    line["batch"] = entry.batch;
    line["queue_ms"] = rounded(entry.queue_ms);
    line["infer_ms"] = rounded(entry.infer_ms);
  }
  if (!entry.error.empty()) line["error"] = entry.error;
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

AccessLog::AccessLog(const std::string& where) {
  if (where == "none") return;
  file_.reset(where == "-" ? stdout : std::fopen(where.c_str(), "ae"));
  if (!file_)
    throw Error(where + ": cannot be opened for the access log (" + std::strerror(errno) + ")");
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
  if (!file_) return;
  std::string line = line_of(entry);
  {
    const std::lock_guard lock(mutex_);
    if (lines_.size() >= kMaxLines) {
      ++dropped_;
      return;
    }
    lines_.push_back(std::move(line));
  }
  changed_.notify_one();
}

void AccessLog::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return closing_ || !lines_.empty(); });
    if (lines_.empty()) return;
    std::vector<std::string> lines;
    lines.swap(lines_);
    if (dropped_ > 0) lines.push_back("{\"dropped_lines\":" + std::to_string(dropped_) + "}\n");
    dropped_ = 0;
    lock.unlock();
    for (const std::string& line : lines) std::fwrite(line.data(), 1, line.size(), file_.get());
    std::fflush(file_.get());
    lock.lock();
  }
}

}  // namespace labelassemble::serve
