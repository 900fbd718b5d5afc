// An HTTP request and its answer, as the service sees them: no sockets, no Beast.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "access_log.h"
#include "memory_budget.h"

namespace labelassemble::serve {

struct HttpRequest {
  explicit HttpRequest(MemoryBudget::Charge taken) : charge(std::move(taken)) {}

  std::string method;
  std::string target;
  std::string content_encoding;
  std::string accept_encoding;
  std::optional<std::string> inference_header_length;
  std::vector<std::uint8_t> body;
  MemoryBudget::Charge charge;                      // for `body`
  std::shared_ptr<const std::atomic<bool>> gone;    // the client has left
  std::chrono::steady_clock::time_point arrived{};  // whole
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  AccessEntry log;  // what the service knows of the request
  Held held;        // for `body`, where it is large
};

using Reply = std::function<void(HttpResponse)>;

HttpResponse error_response(int status, const std::string& message, int retry_after_s = 0);

}  // namespace labelassemble::serve
