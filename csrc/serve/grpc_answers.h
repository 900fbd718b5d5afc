// Every call of GRPCInferenceService but those of inference.
#pragma once

#include <map>
#include <span>
#include <string>

#include "engine.h"
#include "grpc_call.h"
#include "protocol.h"

namespace labelassemble::serve {

struct GrpcMethod {
  enum class Where { kHere, kQuick, kSlow };  // kHere: on gRPC's own thread, as health must be
  Where where = Where::kQuick;
  // From the request's message to the answer's. Throws HttpError.
  grpc::ByteBuffer (*answer)(Engine& engine, Bytes message) = nullptr;
};

// By path: "/inference.GRPCInferenceService/ServerLive".
const std::map<std::string, GrpcMethod>& grpc_methods();

// Why a path that is not served is not.
HttpError not_served(const std::string& path);

class GrpcAnswerCall final : public GrpcUnaryCall {
 public:
  GrpcAnswerCall(const GrpcContext& context, grpc::GenericCallbackServerContext& call,
                 const GrpcMethod& method)
      : GrpcUnaryCall(context, call), answers_(method) {}

 private:
  void handle(grpc::ByteBuffer message, MemoryBudget::Charge charge) override;
  void respond(grpc::ByteBuffer message, MemoryBudget::Charge charge);

  const GrpcMethod& answers_;
};

}  // namespace labelassemble::serve
