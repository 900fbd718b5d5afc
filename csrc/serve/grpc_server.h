// Answers gRPC: inference.GRPCInferenceService of inference.proto.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "access_log.h"
#include "engine.h"
#include "memory_budget.h"
#include "metrics.h"
#include "options.h"

namespace labelassemble::serve {

class GrpcServer {
 public:
  // Listens at once; connections are accepted when the io_context runs. Throws Error for an address
  // that is none, or is taken.
  GrpcServer(boost::asio::io_context& io, const Options& options, Engine& engine, Metrics& metrics,
             MemoryBudget& memory, AccessLog& log);
  ~GrpcServer();

  std::string url() const;  // without a scheme, as gRPC's clients take it

  // Accepts no more, and lets every call finish; `done` is called on the io_context when all have,
  // or when the drain timeout has passed, with the number of those that were cut off.
  void drain(std::function<void(std::size_t)> done);

 private:
  class Parts;
  std::unique_ptr<Parts> parts_;
};

// Of `max_memory`, the bytes that messages may take while they arrive; the rest is the budget of
// whole requests.
std::size_t grpc_share(std::size_t max_memory);

}  // namespace labelassemble::serve
