// ModelStreamInfer: many requests and answers in one call.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "grpc_call.h"
#include "grpc_message.h"

namespace labelassemble::serve {

// Answers come in the order of the requests, whatever finishes first. No more requests are read
// than kMostUnderWay; the rest stay with the client.
class GrpcStreamCall final : public GrpcCall {
 public:
  using GrpcCall::GrpcCall;

  void start() override;
  void drain() override;

 private:
  static constexpr std::size_t kMostUnderWay = 64;

  struct Request {
    Clock::time_point arrived;
    std::size_t bytes = 0;
    bool ready = false;  // to be sent
    grpc::ByteBuffer answer;
    Held held;  // for `answer`
    AccessEntry entry;
    std::optional<HttpError> error;
  };

  void on_read(bool ok) override;
  void on_written(bool ok) override;
  void expire() override;
  void take(const std::shared_ptr<Request>& request, grpc::ByteBuffer message);
  void finish(const std::shared_ptr<Request>& request, inference::ModelInferResponse response,
              AccessEntry entry, const std::optional<HttpError>& error, Held held);
  void end(const HttpError& error);

  struct Step {
    const grpc::ByteBuffer* write = nullptr;
    bool read = false;
    bool finish = false;
  };
  // Does what is to be done next: send an answer, read a request, end.
  void advance();
  Step next_step();

  std::mutex mutex_;
  grpc::ByteBuffer message_;
  std::deque<std::shared_ptr<Request>> requests_;  // in their order
  bool reading_ = false;
  bool writing_ = false;
  bool no_more_ = false;  // requests: the client has said so, or the server stops
  int starting_ = 0;      // threads that begin to read or write, before which it must not end
  bool ended_ = false;
  std::optional<HttpError> why_;  // the server ends it
};

}  // namespace labelassemble::serve
