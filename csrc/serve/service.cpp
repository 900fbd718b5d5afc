#include "service.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <charconv>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <utility>

#include "compression.h"
#include "cores.h"
#include "error.h"
#include "model_json.h"
#include "say.h"

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

// A body without JSON is one image, as it lies in a file.
InferRequest raw_request(const ModelConfig& config, Bytes body) {
  if (body.empty()) throw HttpError(400, "the body must hold an image, and is empty");
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

// The one place where what went wrong becomes an answer.
HttpResponse response_of(std::exception_ptr failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const HttpError& error) {
    return error_response(error.status(), error.what(), error.retry_after_s());
  } catch (const std::bad_alloc&) {
    return error_response(503, "no memory is free for this request", 1);
  } catch (const std::exception& error) {
    say(error.what());
    return error_response(500, error.what());
  }
}

template <typename Function>
HttpResponse respond(Function function) {
  try {
    return function();
  } catch (...) {
    return response_of(std::current_exception());
  }
}

bool is_health(const std::vector<std::string>& parts) {
  return parts.size() == 3 && parts[0] == "v2" && parts[1] == "health" &&
         (parts[2] == "live" || parts[2] == "ready");
}

}  // namespace

HttpResponse error_response(int status, const std::string& message, int retry_after_s) {
  HttpResponse response = json_response({{"error", message}}, status);
  if (retry_after_s > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(retry_after_s));
  }
  response.log.error = message;
  return response;
}

Service::Service(const Options& options, Repository& repository, Metrics& metrics,
                 MemoryBudget& memory)
    : options_(options),
      repository_(repository),
      metrics_(metrics),
      memory_(memory),
      workers_(static_cast<std::size_t>(available_cores())),
      light_(1),
      control_(1) {}

Service::~Service() {
  workers_.join();
  light_.join();
  control_.join();
}

void Service::handle(HttpRequest request, Reply reply) {
  std::optional<std::vector<std::string>> parts = split_path(request.target);
  if (!parts) {
    return reply(error_response(400, "the path is malformed: " + request.target.substr(0, 200)));
  }
  const std::optional<ModelPath> path = model_path(*parts);
  if (path && path->action == "infer") {
    boost::asio::post(workers_, [this, request = std::make_shared<HttpRequest>(std::move(request)),
                                 path = *path, reply = std::move(reply)]() mutable {
      infer(std::move(*request), path, std::move(reply));
    });
    return;
  }
  if (is_health(*parts)) return reply(respond([&] { return health(request, parts->back()); }));
  if (request.body.size() > kMaxControlBody) {
    return reply(error_response(413, "only inference takes a body of more than " +
                                         std::to_string(kMaxControlBody) + " bytes"));
  }
  const bool slow = parts->size() == 5 && (parts->back() == "load" || parts->back() == "unload");
  boost::asio::post(
      slow ? control_ : light_,
      [this, request = std::make_shared<HttpRequest>(std::move(request)), parts = std::move(*parts),
       reply = std::move(reply)] { reply(respond([&] { return answer(*request, parts); })); });
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
      return server_metadata();
    }
    if (parts == std::vector<std::string>{"v2", "models", "stats"}) {
      need_method(request, "GET");
      json list = json::array();
      for (const auto& model : repository_.ready_models()) list.push_back(statistics_json(*model));
      return json_response({{"model_stats", list}});
    }
    if (parts[1] == "repository") return answer_repository(request, parts);
    if (parts[1] == "systemsharedmemory" || parts[1] == "cudasharedmemory") {
      throw HttpError(501, "shared memory is not supported; send tensors in the request");
    }
    if (parts[1] == "trace" || (parts.size() > 3 && parts[1] == "models" && parts[3] == "trace")) {
      throw HttpError(501, "tracing is not supported; see /metrics and the access log");
    }
    if (parts[1] == "logging") {
      throw HttpError(501, "log settings are chosen when the server starts");
    }
    if (const auto path = model_path(parts)) return answer_model(request, *path);
  }
  throw HttpError(404, "there is nothing at " + request.target.substr(0, 200));
}

HttpResponse Service::server_metadata() const {
  json extensions{"binary_tensor_data", "classification", "model_configuration", "model_repository",
                  "statistics"};
  if (options_.explicit_control) extensions.push_back("model_repository(unload_dependents)");
  return json_response({{"name", "labelassemble-serve"},
                        {"version", LABELASSEMBLE_VERSION},
                        {"extensions", extensions}});
}

HttpResponse Service::health(const HttpRequest& request, const std::string& what) const {
  need_method(request, "GET");
  const bool good = what == "live" || (!draining_ && repository_.ready());
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
    return json_response(repository_.index(only_ready));
  }
  if (parts.size() == 5 && parts[2] == "models" && (parts[4] == "load" || parts[4] == "unload")) {
    need_method(request, "POST");
    if (parts[4] == "unload") {
      repository_.unload(parts[3]);
    } else {
      const json wish =
          request.body.empty() ? json::object() : json::parse(request.body, nullptr, false);
      if (!wish.is_object()) throw HttpError(400, "the body must be empty or a JSON object");
      if (wish.contains("parameters") && !wish["parameters"].empty()) {
        throw HttpError(400,
                        "models are loaded from the repository as they are: config and file "
                        "parameters are not supported");
      }
      repository_.load(parts[3]);
    }
    return HttpResponse{};
  }
  throw HttpError(404, "there is nothing at " + request.target.substr(0, 200));
}

HttpResponse Service::answer_model(const HttpRequest& request, const ModelPath& path) {
  const std::string& action = path.action;
  if (action == "ready") {
    need_method(request, "GET");
    repository_.find(path.name, path.version);  // throws when it is not
    return json_response({{"name", path.name}, {"ready", true}});
  }
  if (!action.empty() && action != "config" && action != "stats") {
    throw HttpError(404, "there is nothing at " + request.target.substr(0, 200));
  }
  need_method(request, "GET");
  const std::shared_ptr<Model> model = repository_.find(path.name, path.version);
  if (action == "config") return json_response(config_json(*model));
  if (action == "stats") {
    return json_response({{"model_stats", json::array({statistics_json(*model)})}});
  }
  return json_response(metadata_json(*model, repository_.versions(path.name)));
}

void Service::infer(HttpRequest request, const ModelPath& path, Reply reply) {
  // What the answer's log line says even of a request that fails.
  AccessEntry log;
  std::shared_ptr<Model> model;
  try {
    need_method(request, "POST");
    model = repository_.find(path.name, path.version);
    log.model = path.name;
    log.version = model->version();

    if (Clock::now() - request.arrived >= options_.request_timeout) {
      throw HttpError(504, "the request waited longer for its turn than its time allows");
    }
    InferCall call{.body = std::move(request.body),
                   .charge = std::move(request.charge),
                   .request = {},
                   .gone = std::move(request.gone),
                   .arrived = request.arrived};
    if (!request.content_encoding.empty() && request.content_encoding != "identity") {
      const std::size_t compressed = call.charge.bytes();
      call.body = decompress(call.body, request.content_encoding, options_.max_body, call.charge);
      call.charge.subtract(compressed);
    }
    const std::optional<std::size_t> length = header_length(request);
    const bool raw = length == std::size_t{0};
    call.request = raw ? raw_request(model->config(), call.body)
                       : parse_infer_request(call.body, length, call.charge);
    log.id = call.request.id;

    const std::string encoding = choose_encoding(request.accept_encoding);
    Model& owner = *model;  // outlives its queue, from where `done` is called
    // Shared with the handler below: a queue that is full leaves the reply to this function.
    const auto shared_reply = std::make_shared<Reply>(std::move(reply));
    reply = [shared_reply](HttpResponse response) { (*shared_reply)(std::move(response)); };
    model->infer(std::move(call), [&owner, shared_reply, log, encoding,
                                   arrived = request.arrived](InferOutcome outcome) {
      HttpResponse response;
      const Clock::time_point start = Clock::now();
      try {
        if (outcome.error) throw HttpError(*outcome.error);
        EncodedAnswer answer = encode_answer(log.model, log.version, log.id, outcome.outputs);
        response.body = std::move(answer.body);
        if (answer.header_length) {
          response.content_type = "application/octet-stream";
          response.headers.emplace_back("Inference-Header-Content-Length",
                                        std::to_string(*answer.header_length));
        }
        if (!encoding.empty()) {
          response.body = compress(response.body, encoding);
          response.headers.emplace_back("Content-Encoding", encoding);
        }
        owner.metrics().succeeded(Clock::now() - arrived, Clock::now() - start);
      } catch (...) {
        response = response_of(std::current_exception());
      }
      const auto milliseconds = [](Clock::duration duration) {
        return std::chrono::duration<double, std::milli>(duration).count();
      };
      const std::string error = response.log.error;
      response.log = log;
      response.log.error = error;
      response.log.images = outcome.images;
      response.log.batch = outcome.batch;
      response.log.queue_ms = milliseconds(outcome.queue);
      response.log.infer_ms = milliseconds(outcome.infer);
      (*shared_reply)(std::move(response));
    });
  } catch (...) {
    HttpResponse response = response_of(std::current_exception());
    if (model) model->metrics().failed(response.status, Clock::now() - request.arrived);
    const std::string error = response.log.error;
    response.log = log;
    response.log.error = error;
    reply(std::move(response));
  }
}

}  // namespace labelassemble::serve
