#include "grpc_stream.h"

#include <utility>

namespace labelassemble::serve {

void GrpcStreamCall::start() { advance(); }

void GrpcStreamCall::drain() { end(HttpError(503, "the server is stopping")); }

void GrpcStreamCall::expire() {
  bool writing = false;
  {
    const std::lock_guard lock(mutex_);
    writing = writing_;
  }
  if (writing) return cancel();  // the client does not take its answer
  end(HttpError(504, "the stream was silent for longer than --idle-timeout"));
}

void GrpcStreamCall::end(const HttpError& error) {
  {
    const std::lock_guard lock(mutex_);
    if (no_more_) return;
    no_more_ = true;
    why_ = error;
  }
  advance();
}

void GrpcStreamCall::on_read(bool ok) {
  std::shared_ptr<Request> request;
  grpc::ByteBuffer message;
  {
    const std::lock_guard lock(mutex_);
    reading_ = false;
    if (!ok) no_more_ = true;
    if (ok && !ended_) {
      request = std::make_shared<Request>();
      request->arrived = Clock::now();
      request->bytes = message_.Length();
      requests_.push_back(request);
      message.Swap(&message_);
    }
  }
  if (request) take(request, std::move(message));
  advance();
}

void GrpcStreamCall::take(const std::shared_ptr<Request>& request, grpc::ByteBuffer message) {
  try {
    check_length(request->bytes);
    MemoryBudget::Charge charge(context_.memory);
    charge.add(request->bytes);
    const auto done = [this, request](inference::ModelInferResponse response, AccessEntry entry,
                                      const std::optional<HttpError>& error, Held held) {
      finish(request, std::move(response), std::move(entry), error, std::move(held));
    };
    context_.engine.infer(
        infer_call(std::move(charge)),
        std::make_shared<GrpcExchange>(context_.options, std::move(message), done));
  } catch (...) {
    const HttpError error = error_of(std::current_exception());
    AccessEntry entry;
    entry.error = error.what();
    finish(request, {}, std::move(entry), error, nullptr);
  }
}

void GrpcStreamCall::finish(const std::shared_ptr<Request>& request,
                            inference::ModelInferResponse response, AccessEntry entry,
                            const std::optional<HttpError>& error, Held held) {
  inference::ModelStreamInferResponse answer;
  if (error) {
    answer.set_error_message(message_of(*error));
    answer.mutable_infer_response()->set_id(entry.id);
  } else {
    (*response.mutable_parameters())["triton_final_response"].set_bool_param(true);
    *answer.mutable_infer_response() = std::move(response);
  }
  entry.request_bytes = request->bytes;
  grpc::ByteBuffer bytes = write_message(answer);
  entry.response_bytes = bytes.Length();
  {
    const std::lock_guard lock(mutex_);
    request->answer = std::move(bytes);
    request->held = std::move(held);
    request->entry = std::move(entry);
    request->error = error;
    request->ready = true;
  }
  advance();
}

void GrpcStreamCall::on_written(bool ok) {
  std::shared_ptr<Request> sent;
  {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    sent = std::move(requests_.front());
    requests_.pop_front();
  }
  if (!ok && !sent->error) sent->error = why_cancelled("before its answer was written");
  log(std::move(sent->entry), sent->error, sent->arrived);
  advance();
}

void GrpcStreamCall::advance() {
  for (;;) {
    const Step step = next_step();
    if (step.write != nullptr) StartWrite(step.write);
    if (step.read) StartRead(&message_);
    // Nothing of this may be touched after that: gRPC may be done with it.
    if (step.finish) return Finish(why_ ? status_of(*why_) : grpc::Status::OK);
    if (step.write == nullptr && !step.read) return;
    const std::lock_guard lock(mutex_);
    --starting_;
  }
}

GrpcStreamCall::Step GrpcStreamCall::next_step() {
  const Options& options = context_.options;
  Step step;
  const std::lock_guard lock(mutex_);
  if (ended_) return step;
  if (!writing_ && !requests_.empty() && requests_.front()->ready) {
    writing_ = true;
    step.write = &requests_.front()->answer;
  }
  if (!reading_ && !no_more_ && requests_.size() < kMostUnderWay) {
    reading_ = true;
    step.read = true;
  }
  if (step.write != nullptr || step.read) ++starting_;
  if (no_more_ && requests_.empty() && starting_ == 0) {
    ended_ = true;
    step.finish = true;
  }
  if (step.write != nullptr) {
    expect(options.write_timeout);
  } else if (!writing_ && requests_.empty() && !ended_) {
    expect(options.idle_timeout);
  } else if (!writing_) {
    expect_nothing();
  }
  return step;
}

}  // namespace labelassemble::serve
