#include "grpc_answers.h"

#include <google/protobuf/util/json_util.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "error.h"
#include "grpc_message.h"
#include "wire_format.h"

namespace labelassemble::serve {
namespace {

using nlohmann::json;

// A request that is no inference says little.
constexpr std::size_t kMaxControl = std::size_t{64} << 10;

constexpr const char* kServiceName = "inference.GRPCInferenceService";

template <typename Message>
Message parse(Bytes bytes) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    throw HttpError(400, "the message is no " + message.GetTypeName());
  }
  return message;
}

// What HTTP answers as JSON, as the message that has the same names. JSON may say more.
template <typename Message>
Message message_of(const json& value) {
  Message message;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  const auto status = google::protobuf::util::JsonStringToMessage(
      value.dump(-1, ' ', false, json::error_handler_t::replace), &message, options);
  if (!status.ok()) throw HttpError(500, "the answer cannot be written: " + status.ToString());
  return message;
}

template <typename Request>
ModelName named(const Request& request) {
  return {request.name(), request.version()};
}

inference::ServerLiveResponse live(Engine&, const inference::ServerLiveRequest&) {
  inference::ServerLiveResponse response;
  response.set_live(true);
  return response;
}

inference::ServerReadyResponse ready(Engine& engine, const inference::ServerReadyRequest&) {
  inference::ServerReadyResponse response;
  response.set_ready(engine.ready());
  return response;
}

inference::ModelReadyResponse model_ready(Engine& engine,
                                          const inference::ModelReadyRequest& request) {
  inference::ModelReadyResponse response;
  try {
    engine.need_model(named(request));
    response.set_ready(true);
  } catch (const HttpError& error) {
    if (error.status() == 400) throw;  // no version
  }
  return response;
}

inference::ServerMetadataResponse server_metadata(Engine& engine,
                                                  const inference::ServerMetadataRequest&) {
  return message_of<inference::ServerMetadataResponse>(engine.server_metadata());
}

inference::ModelMetadataResponse metadata(Engine& engine,
                                          const inference::ModelMetadataRequest& request) {
  return message_of<inference::ModelMetadataResponse>(engine.metadata(named(request)));
}

inference::ModelConfigResponse config(Engine& engine,
                                      const inference::ModelConfigRequest& request) {
  return message_of<inference::ModelConfigResponse>({{"config", engine.config(named(request))}});
}

inference::ModelStatisticsResponse statistics(Engine& engine,
                                              const inference::ModelStatisticsRequest& request) {
  return message_of<inference::ModelStatisticsResponse>(engine.statistics(named(request)));
}

// There is one repository, which has no name.
template <typename Request>
void check_repository(const Request& request) {
  if (request.repository_name().empty()) return;
  throw HttpError(404, "there is no repository '" + request.repository_name().substr(0, 200) +
                           "'; leave its name out");
}

inference::RepositoryIndexResponse index(Engine& engine,
                                         const inference::RepositoryIndexRequest& request) {
  check_repository(request);
  return message_of<inference::RepositoryIndexResponse>(
      {{"models", engine.index(request.ready())}});
}

inference::RepositoryModelLoadResponse load(Engine& engine,
                                            const inference::RepositoryModelLoadRequest& request) {
  check_repository(request);
  engine.load(request.model_name(), !request.parameters().empty());
  return {};
}

inference::RepositoryModelUnloadResponse unload(
    Engine& engine, const inference::RepositoryModelUnloadRequest& request) {
  check_repository(request);
  engine.unload(request.model_name());
  return {};
}

template <auto function, typename Request>
grpc::ByteBuffer answer(Engine& engine, Bytes message) {
  return write_message(function(engine, parse<Request>(message)));
}

// grpc.health.v1.Health/Check, which Kubernetes' probes ask: HealthCheckRequest { service = 1 },
// empty for the whole server; HealthCheckResponse { status = 1 }, SERVING = 1, NOT_SERVING = 2.
grpc::ByteBuffer check_health(Engine& engine, Bytes message) {
  std::string service;
  while (const auto field = next_field(message)) {
    if (field->number != 1) continue;
    need(*field, Wire::kBytes);
    service.assign(field->bytes.begin(), field->bytes.end());
  }
  if (!service.empty() && service != kServiceName) {
    throw HttpError(404, "there is no service '" + service.substr(0, 200) +
                             "'; leave it out, or ask for " + kServiceName);
  }
  const grpc::Slice slice(std::string{'\x08', engine.ready() ? '\x01' : '\x02'});
  return {&slice, 1};
}

}  // namespace

const std::map<std::string, GrpcMethod>& grpc_methods() {
  using Where = GrpcMethod::Where;
  static const std::string kService = std::string("/") + kServiceName + "/";
  static const std::map<std::string, GrpcMethod> kMethods{
      {kService + "ServerLive", {Where::kHere, answer<live, inference::ServerLiveRequest>}},
      {kService + "ServerReady", {Where::kHere, answer<ready, inference::ServerReadyRequest>}},
      {"/grpc.health.v1.Health/Check", {Where::kHere, check_health}},
      {kService + "ModelReady", {Where::kQuick, answer<model_ready, inference::ModelReadyRequest>}},
      {kService + "ServerMetadata",
       {Where::kQuick, answer<server_metadata, inference::ServerMetadataRequest>}},
      {kService + "ModelMetadata",
       {Where::kQuick, answer<metadata, inference::ModelMetadataRequest>}},
      {kService + "ModelConfig", {Where::kQuick, answer<config, inference::ModelConfigRequest>}},
      {kService + "ModelStatistics",
       {Where::kQuick, answer<statistics, inference::ModelStatisticsRequest>}},
      {kService + "RepositoryIndex",
       {Where::kQuick, answer<index, inference::RepositoryIndexRequest>}},
      {kService + "RepositoryModelLoad",
       {Where::kSlow, answer<load, inference::RepositoryModelLoadRequest>}},
      {kService + "RepositoryModelUnload",
       {Where::kSlow, answer<unload, inference::RepositoryModelUnloadRequest>}},
  };
  return kMethods;
}

HttpError not_served(const std::string& path) {
  const auto has = [&](const char* part) { return path.find(part) != std::string::npos; };
  if (has("SharedMemory")) return {501, kNoSharedMemory};
  if (has("/TraceSetting")) return {501, kNoTracing};
  if (has("/LogSettings")) return {501, kNoLogSettings};
  return {501, "there is no call " + path.substr(0, 200)};
}

void GrpcAnswerCall::handle(grpc::ByteBuffer message, MemoryBudget::Charge charge) {
  if (message.Length() > kMaxControl) {
    throw HttpError(413, "only inference takes a message of more than " +
                             std::to_string(kMaxControl) + " bytes");
  }
  if (answers_.where == GrpcMethod::Where::kHere) {
    return respond(std::move(message), std::move(charge));
  }
  auto work = [this, message = std::move(message),
               charge = std::make_shared<MemoryBudget::Charge>(std::move(charge))] {
    respond(message, std::move(*charge));
  };
  if (answers_.where == GrpcMethod::Where::kSlow) return context_.engine.slow(std::move(work));
  context_.engine.quick(std::move(work));
}

void GrpcAnswerCall::respond(grpc::ByteBuffer message, MemoryBudget::Charge charge) {
  try {
    const std::vector<std::uint8_t> bytes = read_message(message, kMaxControl, charge);
    answer(answers_.answer(context_.engine, bytes), {});
  } catch (...) {
    AccessEntry entry;
    const HttpError error = error_of(std::current_exception());
    entry.error = error.what();
    refuse(error, std::move(entry));
  }
}

}  // namespace labelassemble::serve
