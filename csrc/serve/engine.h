// What the server does, whatever the protocol: HTTP and gRPC both ask this.
#pragma once

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <exception>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "access_log.h"
#include "error.h"
#include "model.h"
#include "options.h"
#include "repository.h"

namespace labelassemble::serve {

// Why a part of Triton's protocol is not served.
inline constexpr const char* kNoSharedMemory =
    "shared memory is not supported; send tensors in the request";
inline constexpr const char* kNoTracing =
    "tracing is not supported; see /metrics and the access log";
inline constexpr const char* kNoLogSettings = "log settings are chosen when the server starts";

struct ModelName {
  std::string name;
  std::string version;  // empty: the newest
};

// How a protocol reads one inference request and writes its answer. These are called one after
// another, on several threads; all may throw but the last, which is called exactly once.
class InferExchange {
 public:
  virtual ~InferExchange() = default;

  // What the request is for.
  virtual ModelName target(InferCall& call) = 0;
  // Fills `call.request`, which points into `call.body`.
  virtual void read(const ModelConfig& config, InferCall& call) = 0;
  virtual void write(const AccessEntry& log, const std::vector<OutputTensor>& outputs) = 0;
  // Sends what was written, or why there is nothing. `held` lasts until that is sent.
  virtual void send(AccessEntry log, const std::optional<HttpError>& error, Held held) = 0;
};

class Engine {
 public:
  Engine(const Options& options, Repository& repository);
  ~Engine();

  // Reads, decodes and resizes on a thread for that; returns at once.
  void infer(InferCall call, std::shared_ptr<InferExchange> exchange);
  // Run what takes a moment, never behind an image; and what may take long.
  void quick(std::function<void()> work);
  void slow(std::function<void()> work);

  // Not ready from now on; what comes is still answered.
  void drain() { draining_ = true; }
  bool ready() const { return !draining_ && repository_.ready(); }

  // As the protocols have them, in JSON. Throw HttpError: no such model, or it is not ready.
  nlohmann::json server_metadata() const;
  nlohmann::json metadata(const ModelName& model) const;
  nlohmann::json config(const ModelName& model) const;
  nlohmann::json statistics(const ModelName& model) const;  // of all models, for an empty name
  nlohmann::json index(bool only_ready) const { return repository_.index(only_ready); }
  void need_model(const ModelName& model) const { repository_.find(model.name, model.version); }
  // `parameters`: whether the request has any, which are refused.
  void load(const std::string& name, bool parameters);
  void unload(const std::string& name) { repository_.unload(name); }

 private:
  void run(InferCall call, const std::shared_ptr<InferExchange>& exchange);

  const Options& options_;
  Repository& repository_;
  std::atomic<bool> draining_{false};
  boost::asio::thread_pool workers_;  // parse, decode and resize
  boost::asio::thread_pool quick_;    // metrics, metadata, statistics
  boost::asio::thread_pool slow_;     // load and unload
};

// The one place where what went wrong becomes an answer.
HttpError error_of(std::exception_ptr failure);

}  // namespace labelassemble::serve
