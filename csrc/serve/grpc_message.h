// Messages of gRPC as bytes.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "access_log.h"
#include "engine.h"
#include "inference.pb.h"
#include "memory_budget.h"
#include "options.h"

namespace labelassemble::serve {

// The bytes of a message, decompressed, in one piece; `message` is then empty. The charge holds its
// length, and afterwards that of the result. Throws HttpError: 413 for more than `most` bytes or
// too much compression, 415 for one that is not known, 400 for damaged data, 413 or 503: no memory.
std::vector<std::uint8_t> read_message(grpc::ByteBuffer& message, std::size_t most,
                                       MemoryBudget::Charge& charge);

grpc::ByteBuffer write_message(const google::protobuf::Message& message);

// An inference request over gRPC, of a call or of a stream.
class GrpcExchange final : public InferExchange {
 public:
  // Called once: the answer, or an error.
  using Done = std::function<void(inference::ModelInferResponse, AccessEntry,
                                  const std::optional<HttpError>&, Held)>;

  GrpcExchange(const Options& options, grpc::ByteBuffer message, Done done);

  ModelName target(InferCall& call) override;
  void read(const ModelConfig& config, InferCall& call) override;
  void write(const AccessEntry& log, const std::vector<OutputTensor>& outputs) override;
  void send(AccessEntry log, const std::optional<HttpError>& error, Held held) override;

 private:
  const Options& options_;
  grpc::ByteBuffer message_;
  const Done done_;
  inference::ModelInferResponse response_;
};

}  // namespace labelassemble::serve
