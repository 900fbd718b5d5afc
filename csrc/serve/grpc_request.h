// Inference requests as gRPC carries them: protobuf's ModelInferRequest, read as it streams by. A
// pure function of bytes, so that it can be fuzzed; needs neither gRPC nor protobuf.
#pragma once

#include <string>

#include "memory_budget.h"
#include "protocol.h"

namespace labelassemble::serve {

struct GrpcTarget {
  std::string model;
  std::string version;  // empty: the newest
};

// For which model the request is. Throws HttpError 400: no protobuf message.
GrpcTarget grpc_target(Bytes message);

// Throws as parse_infer_request does. The request points into `message`.
InferRequest parse_grpc_request(Bytes message, MemoryBudget::Charge& charge);

}  // namespace labelassemble::serve
