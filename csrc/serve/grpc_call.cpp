#include "grpc_call.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "http2_guard.h"
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace labelassemble::serve {
namespace {

// A status travels in a header, which clients limit.
constexpr std::size_t kMaxMessage = 2048;

struct Code {
  int http;
  grpc::StatusCode grpc;
  const char* name;
};

const Code& code_of(int status) {
  static constexpr Code kCodes[] = {
      {400, grpc::StatusCode::INVALID_ARGUMENT, "INVALID_ARGUMENT"},
      {404, grpc::StatusCode::NOT_FOUND, "NOT_FOUND"},
      {413, grpc::StatusCode::RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"},
      {415, grpc::StatusCode::UNIMPLEMENTED, "UNIMPLEMENTED"},
      {429, grpc::StatusCode::RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"},
      {499, grpc::StatusCode::CANCELLED, "CANCELLED"},
      {501, grpc::StatusCode::UNIMPLEMENTED, "UNIMPLEMENTED"},
      {503, grpc::StatusCode::UNAVAILABLE, "UNAVAILABLE"},
      {504, grpc::StatusCode::DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"},
      {500, grpc::StatusCode::INTERNAL, "INTERNAL"},
  };
  for (const Code& code : kCodes) {
    if (code.http == status) return code;
  }
  return *std::prev(std::end(kCodes));
}

std::string traceparent_of(const grpc::ServerContextBase& call) {
  const auto found = call.client_metadata().find("traceparent");
  if (found == call.client_metadata().end()) return "";
  return checked_traceparent({found->second.data(), found->second.size()});
}

}  // namespace

std::string message_of(const HttpError& error) {
  // What is quoted may be cut within a character, or come from a file that is no text.
  using nlohmann::json;
  const json text = std::string(error.what()).substr(0, kMaxMessage);
  return json::parse(text.dump(-1, ' ', false, json::error_handler_t::replace)).get<std::string>();
}

grpc::Status status_of(const HttpError& error) {
  return {code_of(error.status()).grpc, message_of(error)};
}

std::string status_name(const std::optional<HttpError>& error) {
  return error ? code_of(error->status()).name : "OK";
}

std::size_t GrpcCalls::add(std::shared_ptr<GrpcCall> call) {
  const std::lock_guard lock(mutex_);
  GrpcCall* const key = call.get();
  const std::size_t of_peer = ++of_peers_[key->peer()];
  calls_[key] = std::move(call);
  return of_peer;
}

void GrpcCalls::remove(GrpcCall* call) {
  std::shared_ptr<GrpcCall> last;  // goes after the lock
  const std::lock_guard lock(mutex_);
  const auto found = calls_.find(call);
  if (found == calls_.end()) return;
  last = std::move(found->second);
  calls_.erase(found);
  const auto of_peer = of_peers_.find(last->peer());
  if (--of_peer->second == 0) of_peers_.erase(of_peer);
}

std::size_t GrpcCalls::size() const {
  const std::lock_guard lock(mutex_);
  return calls_.size();
}

std::size_t GrpcCalls::of_peer(const std::string& peer) const {
  const std::lock_guard lock(mutex_);
  const auto found = of_peers_.find(peer);
  return found == of_peers_.end() ? 0 : found->second;
}

std::vector<std::shared_ptr<GrpcCall>> GrpcCalls::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<GrpcCall>> all;
  for (const auto& [key, call] : calls_) all.push_back(call);
  return all;
}

GrpcCall::GrpcCall(const GrpcContext& context, grpc::GenericCallbackServerContext& call)
    : context_(context),
      method_(call.method()),
      call_(call),
      peer_(Http2Guards::peer_of(call.peer())),
      traceparent_(traceparent_of(call)) {
  const auto left = call.deadline() - std::chrono::system_clock::now();
  constexpr std::chrono::hours kLong{24};  // gRPC's clients without a deadline have one far away
  if (left < kLong) {
    deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(left);
  }
}

void GrpcCall::check(Clock::time_point now) {
  if (now.time_since_epoch().count() < until_) return;
  expect_nothing();
  expired_ = true;
  expire();
}

void GrpcCall::expect(milliseconds time) {
  until_ = (Clock::now() + time).time_since_epoch().count();
}

void GrpcCall::expire() { cancel(); }

void GrpcCall::cancel() {
  const std::lock_guard lock(done_mutex_);
  if (!done_) call_.TryCancel();
}

// Not an atomic of the call: the first to touch it would again not be seen to come after its
// construction.
void GrpcCall::in_order() {
#ifdef __SANITIZE_THREAD__
  __tsan_acquire(this);
  __tsan_release(this);
#endif
}

void GrpcCall::StartRead(grpc::ByteBuffer* message) {
  in_order();
  Reactor::StartRead(message);
}

void GrpcCall::StartWrite(const grpc::ByteBuffer* message) {
  in_order();
  Reactor::StartWrite(message);
}

void GrpcCall::StartWriteAndFinish(const grpc::ByteBuffer* message) {
  in_order();
  Reactor::StartWriteAndFinish(message, {}, grpc::Status::OK);
}

void GrpcCall::Finish(const grpc::Status& status) {
  in_order();
  Reactor::Finish(status);
}

void GrpcCall::OnReadDone(bool ok) {
  in_order();
  on_read(ok);
  in_order();
}

void GrpcCall::OnWriteDone(bool ok) {
  in_order();
  on_written(ok);
  in_order();
}

void GrpcCall::OnCancel() {
  in_order();
  // A deadline that has passed is told as such: whoever works for this call sees it for himself.
  cancelled_ = true;
  if (!is_late()) gone_->store(true);
  in_order();
}

bool GrpcCall::is_late() const {
  constexpr std::chrono::milliseconds kClocks{10};  // may differ, of the system and of this
  return deadline_ - kClocks <= Clock::now();
}

HttpError GrpcCall::why_cancelled(const std::string& when) const {
  if (is_late()) return {504, "the call's deadline passed " + when};
  if (expired_) return {499, "the client took too long: the call was ended " + when};
  return {499, "the call was ended " + when};
}

void GrpcCall::check_length(std::size_t bytes) const {
  if (bytes <= context_.options.max_body) return;
  throw HttpError(413, "the message has " + std::to_string(bytes) + " bytes, and may have " +
                           std::to_string(context_.options.max_body) + " (--max-body)");
}

void GrpcCall::OnDone() {
  in_order();
  on_end();
  {
    const std::lock_guard lock(done_mutex_);
    done_ = true;
  }
  context_.calls.remove(this);  // and with that, most likely, this is gone
}

InferCall GrpcCall::infer_call(MemoryBudget::Charge charge) const {
  return {.body = {},
          .charge = std::move(charge),
          .request = {},
          .gone = gone_,
          .arrived = Clock::now(),
          .deadline = deadline_};
}

void GrpcCall::log(AccessEntry entry, const std::optional<HttpError>& error,
                   Clock::time_point arrived) {
  entry.peer = peer_;
  entry.method = "gRPC";
  entry.target = method_;
  entry.traceparent = traceparent_;
  entry.status = error ? error->status() : 200;
  entry.grpc_status = status_name(error);
  if (error) entry.error = error->what();
  entry.duration_ms = std::chrono::duration<double, std::milli>(Clock::now() - arrived).count();
  context_.metrics.count_grpc_response(entry.grpc_status);
  context_.log.write(entry);
}

void GrpcUnaryCall::start() {
  arrived_ = Clock::now();
  expect(context_.options.read_timeout);
  StartRead(&message_);
}

void GrpcUnaryCall::on_read(bool ok) {
  expect_nothing();
  arrived_ = Clock::now();
  AccessEntry entry;
  entry.request_bytes = ok ? message_.Length() : 0;
  entry_ = entry;
  if (!ok) {
    return refuse(why_cancelled("before its message was whole"), entry);
  }
  try {
    check_length(message_.Length());
    MemoryBudget::Charge charge(context_.memory);
    charge.add(message_.Length());
    grpc::ByteBuffer message;
    message.Swap(&message_);
    handle(std::move(message), std::move(charge));
  } catch (...) {
    message_.Clear();
    refuse(error_of(std::current_exception()), entry);
  }
}

void GrpcUnaryCall::answer(const grpc::ByteBuffer& response, AccessEntry entry, Held held) {
  held_ = std::move(held);
  entry.request_bytes = entry_.request_bytes;
  entry.response_bytes = response.Length();
  entry_ = std::move(entry);
  response_ = response;
  expect(context_.options.write_timeout);
  StartWriteAndFinish(&response_);
}

void GrpcUnaryCall::refuse(const HttpError& error, AccessEntry entry) {
  entry.request_bytes = entry_.request_bytes;
  entry_ = std::move(entry);
  error_ = error;
  expect(context_.options.write_timeout);
  Finish(status_of(error));
}

void GrpcUnaryCall::on_end() {
  if (cancelled() && !error_) error_ = why_cancelled("before its answer was written");
  log(std::move(entry_), error_, arrived_);
}

}  // namespace labelassemble::serve
