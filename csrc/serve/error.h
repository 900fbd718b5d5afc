// What a client is told when a request cannot be answered.
#pragma once

#include <string>

#include "labelassemble/error.h"

namespace labelassemble::serve {

// An error with its HTTP status; service.cpp is the one place that turns it into an answer.
class HttpError : public Error {
 public:
  HttpError(int status, const std::string& message, int retry_after_s = 0)
      : Error(message), status_(status), retry_after_s_(retry_after_s) {}

  int status() const noexcept { return status_; }
  int retry_after_s() const noexcept { return retry_after_s_; }  // 0: no Retry-After

 private:
  int status_;
  int retry_after_s_;
};

}  // namespace labelassemble::serve
