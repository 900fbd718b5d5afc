#include "service.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <nlohmann/json.hpp>
#include <utility>

#include "compression.h"
#include "error.h"

namespace labelassemble::serve {
namespace {

using nlohmann::json;

// A request that is no inference says little.
constexpr std::size_t kMaxControlBody = std::size_t{64} << 10;

HttpResponse json_response(const json& value, int status = 200) {
  HttpResponse response;
  response.status = status;
  response.body = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return response;
}

void need_method(const HttpRequest& request, std::string_view method) {
  if (request.method == method || (method == "GET" && request.method == "HEAD")) return;
  throw HttpError(405,
                  request.target + " answers " + std::string(method) + ", got " + request.method);
}

std::optional<std::size_t> header_length(const HttpRequest& request) {
  if (!request.inference_header_length) return std::nullopt;
  const std::string& text = *request.inference_header_length;
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw HttpError(400,
                    "Inference-Header-Content-Length must be a whole number, got '" + text + "'");
  }
  return value;
}

// A body without JSON is one image or volume, as it lies in a file.
InferRequest raw_request(const ModelConfig& config, Bytes body) {
  if (body.empty()) throw HttpError(400, "the body must hold an image or a volume, and is empty");
  InferRequest request;
  InputTensor input;
  input.name = config.input.name;
  input.type = DataType::kBytes;
  input.shape = {1};
  input.data = body;
  input.elements = {body};
  request.inputs.push_back(std::move(input));
  return request;
}

HttpResponse response_of(const HttpError& error) {
  return error_response(error.status(), error.what(), error.retry_after_s());
}

template <typename Function>
HttpResponse respond(Function function) {
  try {
    return function();
  } catch (...) {
    return response_of(error_of(std::current_exception()));
  }
}

bool is_health(const std::vector<std::string>& parts) {
  return parts.size() == 3 && parts[0] == "v2" && parts[1] == "health" &&
         (parts[2] == "live" || parts[2] == "ready");
}

// An inference request over HTTP.
class HttpExchange final : public InferExchange {
 public:
  HttpExchange(const Options& options, HttpRequest request, ModelPath path, Reply reply)
      : options_(options),
        request_(std::move(request)),
        path_(std::move(path)),
        reply_(std::move(reply)) {}

  ModelName target(InferCall&) override {
    need_method(request_, "POST");
    return {path_.name, path_.version};
  }

  void read(const ModelConfig& config, InferCall& call) override {
    if (!request_.content_encoding.empty() && request_.content_encoding != "identity") {
      const std::size_t compressed = call.charge.bytes();
      call.body = decompress(call.body, request_.content_encoding, options_.max_body, call.charge);
      call.charge.subtract(compressed);
    }
    const std::optional<std::size_t> length = header_length(request_);
    const bool raw = length == std::size_t{0};
    call.request =
        raw ? raw_request(config, call.body) : parse_infer_request(call.body, length, call.charge);
  }

  void write(const AccessEntry& log, const std::vector<OutputTensor>& outputs) override {
    EncodedAnswer answer = encode_answer(log.model, log.version, log.id, outputs);
    response_.body = std::move(answer.body);
    if (answer.header_length) {
      response_.content_type = "application/octet-stream";
      response_.headers.emplace_back("Inference-Header-Content-Length",
                                     std::to_string(*answer.header_length));
    }
    const std::string encoding = choose_encoding(request_.accept_encoding);
    const bool compressed = std::any_of(outputs.begin(), outputs.end(),
                                        [](const OutputTensor& one) { return one.compressed; });
    if (encoding.empty() || compressed) return;
    response_.body = compress(response_.body, encoding);
    response_.headers.emplace_back("Content-Encoding", encoding);
  }

  void send(AccessEntry log, const std::optional<HttpError>& error, Held held) override {
    HttpResponse response = error ? response_of(*error) : std::move(response_);
    response.log = std::move(log);
    response.held = std::move(held);
    reply_(std::move(response));
  }

 private:
  const Options& options_;
  const HttpRequest request_;  // but its body
  const ModelPath path_;
  const Reply reply_;
  HttpResponse response_;
};

}  // namespace

HttpResponse error_response(int status, const std::string& message, int retry_after_s) {
  HttpResponse response = json_response({{"error", message}}, status);
  if (retry_after_s > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(retry_after_s));
  }
  response.log.error = message;
  return response;
}

void Service::handle(HttpRequest request, Reply reply) {
  std::optional<std::vector<std::string>> parts = split_path(request.target);
  if (!parts) {
    return reply(error_response(400, "the path is malformed: " + request.target.substr(0, 200)));
  }
  const std::optional<ModelPath> path = model_path(*parts);
  if (path && path->action == "infer") {
    InferCall call{.body = std::move(request.body),
                   .charge = std::move(request.charge),
                   .request = {},
                   .gone = std::move(request.gone),
                   .arrived = request.arrived};
    engine_.infer(std::move(call), std::make_shared<HttpExchange>(options_, std::move(request),
                                                                  *path, std::move(reply)));
    return;
  }
  if (is_health(*parts)) return reply(respond([&] { return health(request, parts->back()); }));
  if (request.body.size() > kMaxControlBody) {
    return reply(error_response(413, "only inference takes a body of more than " +
                                         std::to_string(kMaxControlBody) + " bytes"));
  }
  const bool slow = parts->size() == 5 && (parts->back() == "load" || parts->back() == "unload");
  auto work = [this, request = std::make_shared<HttpRequest>(std::move(request)),
               parts = std::move(*parts), reply = std::move(reply)] {
    reply(respond([&] { return answer(*request, parts); }));
  };
  if (slow) return engine_.slow(std::move(work));
  engine_.quick(std::move(work));
}

HttpResponse Service::answer(const HttpRequest& request, const std::vector<std::string>& parts) {
  if (parts == std::vector<std::string>{"metrics"}) {
    need_method(request, "GET");
    metrics_.request_memory().Set(static_cast<double>(memory_.used()));
    metrics_.request_memory_limit().Set(static_cast<double>(memory_.limit()));
    HttpResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = metrics_.text();
    return response;
  }
  if (!parts.empty() && parts[0] == "v2") {
    if (parts.size() == 1) {
      need_method(request, "GET");
      return json_response(engine_.server_metadata());
    }
    if (parts == std::vector<std::string>{"v2", "models", "stats"}) {
      need_method(request, "GET");
      return json_response(engine_.statistics({}));
    }
    if (parts[1] == "repository") return answer_repository(request, parts);
    if (parts[1] == "systemsharedmemory" || parts[1] == "cudasharedmemory") {
      throw HttpError(501, kNoSharedMemory);
    }
    if (parts[1] == "trace" || (parts.size() > 3 && parts[1] == "models" && parts[3] == "trace")) {
      throw HttpError(501, kNoTracing);
    }
    if (parts[1] == "logging") {
      throw HttpError(501, kNoLogSettings);
    }
    if (const auto path = model_path(parts)) return answer_model(request, *path);
  }
  throw HttpError(404, "there is nothing at " + request.target.substr(0, 200));
}

HttpResponse Service::health(const HttpRequest& request, const std::string& what) const {
  need_method(request, "GET");
  const bool good = what == "live" || engine_.ready();
  return json_response({{what, good}}, good ? 200 : 503);
}

HttpResponse Service::answer_repository(const HttpRequest& request,
                                        const std::vector<std::string>& parts) {
  if (parts.size() == 3 && parts[2] == "index") {
    need_method(request, "POST");
    bool only_ready = false;
    if (!request.body.empty()) {
      const json wish = json::parse(request.body, nullptr, false);
      if (!wish.is_object() || (wish.contains("ready") && !wish["ready"].is_boolean())) {
        throw HttpError(400, "the body must be empty or {\"ready\": true or false}");
      }
      only_ready = wish.value("ready", false);
    }
    return json_response(engine_.index(only_ready));
  }
  if (parts.size() == 5 && parts[2] == "models" && (parts[4] == "load" || parts[4] == "unload")) {
    need_method(request, "POST");
    if (parts[4] == "unload") {
      engine_.unload(parts[3]);
    } else {
      const json wish =
          request.body.empty() ? json::object() : json::parse(request.body, nullptr, false);
      if (!wish.is_object()) throw HttpError(400, "the body must be empty or a JSON object");
      engine_.load(parts[3], wish.contains("parameters") && !wish["parameters"].empty());
    }
    return HttpResponse{};
  }
  throw HttpError(404, "there is nothing at " + request.target.substr(0, 200));
}

HttpResponse Service::answer_model(const HttpRequest& request, const ModelPath& path) {
  const std::string& action = path.action;
  const ModelName model{path.name, path.version};
  if (action == "ready") {
    need_method(request, "GET");
    engine_.need_model(model);
    return json_response({{"name", path.name}, {"ready", true}});
  }
  if (!action.empty() && action != "config" && action != "stats") {
    throw HttpError(404, "there is nothing at " + request.target.substr(0, 200));
  }
  need_method(request, "GET");
  if (action == "config") return json_response(engine_.config(model));
  if (action == "stats") return json_response(engine_.statistics(model));
  return json_response(engine_.metadata(model));
}

}  // namespace labelassemble::serve
