// One call of a gRPC client, and the list of all that are under way.
#pragma once

#include <grpcpp/generic/async_generic_service.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "access_log.h"
#include "engine.h"
#include "memory_budget.h"
#include "metrics.h"
#include "options.h"

namespace labelassemble::serve {

class GrpcCall;

class GrpcCalls {
 public:
  // Returns how many are under way now from the same peer.
  std::size_t add(std::shared_ptr<GrpcCall> call);
  void remove(GrpcCall* call);
  std::size_t size() const;
  std::size_t of_peer(const std::string& peer) const;
  std::vector<std::shared_ptr<GrpcCall>> all() const;

 private:
  mutable std::mutex mutex_;
  std::map<GrpcCall*, std::shared_ptr<GrpcCall>> calls_;
  std::map<std::string, std::size_t> of_peers_;
};

// What all calls of a server share.
struct GrpcContext {
  const Options& options;
  Engine& engine;
  Metrics& metrics;
  MemoryBudget& memory;
  AccessLog& log;
  GrpcCalls& calls;
};

// gRPC calls its On... functions on threads of its own, several at a time. Nothing is started on it
// while a mutex is held, since gRPC may then call back from within.
//
// gRPC promises that what a thread does before it starts something comes before the callback, and
// every callback before OnDone. `in_order` says so to ThreadSanitizer, which cannot see by what
// means gRPC does it.
class GrpcCall : public grpc::ServerGenericBidiReactor {
 public:
  using Reactor = grpc::ServerGenericBidiReactor;
  using milliseconds = std::chrono::milliseconds;

  GrpcCall(const GrpcContext& context, grpc::GenericCallbackServerContext& call);

  virtual void start() = 0;
  const std::string& peer() const { return peer_; }
  // The server is stopping.
  virtual void drain() {}
  // From time to time: ends a call whose client takes too long.
  void check(Clock::time_point now);

  void OnReadDone(bool ok) final;
  void OnWriteDone(bool ok) final;
  void OnCancel() final;
  void OnDone() final;

 protected:
  void StartRead(grpc::ByteBuffer* message);
  void StartWrite(const grpc::ByteBuffer* message);
  void StartWriteAndFinish(const grpc::ByteBuffer* message);
  void Finish(const grpc::Status& status);

  virtual void on_read(bool) {}
  virtual void on_written(bool) {}
  virtual void on_end() {}

  // What the client must do next, within this time. Nothing, until that is called again.
  void expect(milliseconds time);
  void expect_nothing() { until_ = kNever; }
  // It took too long.
  virtual void expire();
  void cancel();

  bool cancelled() const { return cancelled_; }  // by client, deadline or server
  // Why a call that was cancelled was, with what it was at: "before its message was whole".
  HttpError why_cancelled(const std::string& when) const;
  // Throws HttpError 413.
  void check_length(std::size_t bytes) const;

  // Inference as a client asks for it, with what the message takes.
  InferCall infer_call(MemoryBudget::Charge charge) const;
  // Writes a request's line, and counts its answer.
  void log(AccessEntry entry, const std::optional<HttpError>& error, Clock::time_point arrived);

  const GrpcContext context_;
  const std::string method_;

 private:
  static constexpr Clock::rep kNever = std::numeric_limits<Clock::rep>::max();

  bool is_late() const;  // the client's deadline has passed
  void in_order();

  grpc::GenericCallbackServerContext& call_;
  const std::string peer_;
  const std::string traceparent_;
  Clock::time_point deadline_ = Clock::time_point::max();
  const std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);
  std::atomic<Clock::rep> until_{kNever};
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> expired_{false};
  std::recursive_mutex done_mutex_;  // cancelling may call OnDone on the same thread
  bool done_ = false;
};

// A call of one request and one answer.
class GrpcUnaryCall : public GrpcCall {
 public:
  using GrpcCall::GrpcCall;

  void start() override;

 protected:
  // Throws HttpError. Otherwise `answer` or `refuse` follows, on any thread. The charge is for the
  // message.
  virtual void handle(grpc::ByteBuffer message, MemoryBudget::Charge charge) = 0;

  void answer(const grpc::ByteBuffer& response, AccessEntry entry, Held held = nullptr);
  void refuse(const HttpError& error, AccessEntry entry);

 private:
  void on_read(bool ok) override;
  void on_end() override;

  grpc::ByteBuffer message_;
  grpc::ByteBuffer response_;
  Held held_;  // for `response_`
  AccessEntry entry_;
  std::optional<HttpError> error_;
  Clock::time_point arrived_{};
};

std::string message_of(const HttpError& error);  // UTF-8, as protobuf must have it
grpc::Status status_of(const HttpError& error);
std::string status_name(const std::optional<HttpError>& error);  // "OK", "NOT_FOUND"

}  // namespace labelassemble::serve
