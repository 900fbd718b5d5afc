#include "grpc_message.h"

#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <optional>
#include <utility>

#include "compression.h"
#include "error.h"
#include "grpc_request.h"

namespace labelassemble::serve {
namespace {

// Protobuf counts the bytes of a message in an int; beside the tensors there is little.
constexpr std::size_t kMostBytes = (std::size_t{2} << 30) - (std::size_t{16} << 20);

// gRPC would inflate a message whatever its size, so the server tells it not to, and does that
// itself; how it was compressed only a reader of protobuf may ask.
class MessageReader final : public grpc::ProtoBufferReader {
 public:
  using grpc::ProtoBufferReader::ProtoBufferReader;
  grpc_compression_algorithm compression() { return reader()->buffer_in->data.raw.compression; }
};

}  // namespace

std::vector<std::uint8_t> read_message(grpc::ByteBuffer& message, std::size_t most,
                                       MemoryBudget::Charge& charge) {
  std::vector<std::uint8_t> bytes;
  grpc_compression_algorithm compression = GRPC_COMPRESS_NONE;
  const std::size_t length = message.Length();
  {
    const TemporaryCharge copy(charge, length);
    bytes.reserve(length);
    MessageReader reader(&message);
    if (!reader.status().ok()) throw HttpError(400, "the message cannot be read");
    compression = reader.compression();
    const void* data = nullptr;
    int size = 0;
    while (reader.Next(&data, &size)) {
      const auto* start = static_cast<const std::uint8_t*>(data);
      bytes.insert(bytes.end(), start, start + size);
    }
  }
  message.Clear();
  if (compression == GRPC_COMPRESS_NONE) return bytes;
  if (compression != GRPC_COMPRESS_GZIP && compression != GRPC_COMPRESS_DEFLATE) {
    throw HttpError(415, "grpc-encoding must be gzip or deflate");
  }
  std::vector<std::uint8_t> inflated =
      decompress(bytes, compression == GRPC_COMPRESS_GZIP ? "gzip" : "deflate", most, charge);
  charge.subtract(length);
  return inflated;
}

grpc::ByteBuffer write_message(const google::protobuf::Message& message) {
  grpc::ByteBuffer buffer;
  bool own = false;
  const grpc::Status status =
      grpc::SerializationTraits<google::protobuf::Message>::Serialize(message, &buffer, &own);
  if (!status.ok()) throw HttpError(500, "the answer cannot be written: " + status.error_message());
  return buffer;
}

GrpcExchange::GrpcExchange(const Options& options, grpc::ByteBuffer message, Done done)
    : options_(options), message_(std::move(message)), done_(std::move(done)) {}

ModelName GrpcExchange::target(InferCall& call) {
  call.body = read_message(message_, options_.max_body, call.charge);
  GrpcTarget target = grpc_target(call.body);
  return {std::move(target.model), std::move(target.version)};
}

void GrpcExchange::read(const ModelConfig&, InferCall& call) {
  call.request = parse_grpc_request(call.body, call.charge);
}

void GrpcExchange::write(const AccessEntry& log, const std::vector<OutputTensor>& outputs) {
  std::size_t bytes = 0;
  for (const OutputTensor& output : outputs) bytes += raw_bytes(output);
  if (bytes > kMostBytes) {
    throw HttpError(413, "the answer has " + std::to_string(bytes) +
                             " bytes, and a message of gRPC less than 2 GiB: ask for fewer "
                             "classes, or over HTTP");
  }
  response_.set_model_name(log.model);
  response_.set_model_version(log.version);
  response_.set_id(log.id);
  for (const OutputTensor& output : outputs) {
    auto* tensor = response_.add_outputs();
    tensor->set_name(output.name);
    tensor->set_datatype(std::string(name_of(output.type)));
    for (const std::int64_t size : output.shape) tensor->add_shape(size);
    append_raw(*response_.add_raw_output_contents(), output);
  }
}

void GrpcExchange::send(AccessEntry log, const std::optional<HttpError>& error, Held held) {
  message_.Clear();
  done_(std::move(response_), std::move(log), error, std::move(held));
}

}  // namespace labelassemble::serve
