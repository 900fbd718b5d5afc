#include "engine.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "cores.h"
#include "model_json.h"
#include "say.h"

namespace labelassemble::serve {
namespace {

using nlohmann::json;

double milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

void answer(Model& model, InferExchange& exchange, AccessEntry log, Clock::time_point arrived,
            const InferOutcome& outcome) {
  log.images = outcome.images;
  log.batch = outcome.batch;
  log.queue_ms = milliseconds(outcome.queue);
  log.infer_ms = milliseconds(outcome.infer);
  std::optional<HttpError> error = outcome.error;
  if (!error) {
    const Clock::time_point start = Clock::now();
    try {
      exchange.write(log, outcome.outputs);
      model.metrics().succeeded(Clock::now() - arrived, Clock::now() - start);
    } catch (...) {
      error = error_of(std::current_exception());
      model.metrics().failed(error->status(), Clock::now() - arrived);
    }
  }
  if (error) log.error = error->what();
  exchange.send(std::move(log), error, error ? nullptr : outcome.held);
}

}  // namespace

HttpError error_of(std::exception_ptr failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const HttpError& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return {503, "no memory is free for this request", 1};
  } catch (const std::exception& error) {
    say(error.what());
    return {500, error.what()};
  }
}

Engine::Engine(const Options& options, Repository& repository)
    : options_(options),
      repository_(repository),
      workers_(static_cast<std::size_t>(available_cores())),
      quick_(1),
      slow_(1) {}

Engine::~Engine() {
  workers_.join();
  quick_.join();
  slow_.join();
}

void Engine::quick(std::function<void()> work) { boost::asio::post(quick_, std::move(work)); }
void Engine::slow(std::function<void()> work) { boost::asio::post(slow_, std::move(work)); }

void Engine::infer(InferCall call, std::shared_ptr<InferExchange> exchange) {
  boost::asio::post(workers_,
                    [this, call = std::make_shared<InferCall>(std::move(call)),
                     exchange = std::move(exchange)] { run(std::move(*call), exchange); });
}

void Engine::run(InferCall call, const std::shared_ptr<InferExchange>& exchange) {
  AccessEntry log;  // what its line says even of a request that fails
  std::shared_ptr<Model> model;
  const Clock::time_point arrived = call.arrived;
  const Clock::time_point deadline = std::min(call.deadline, arrived + options_.request_timeout);
  try {
    const ModelName target = exchange->target(call);
    model = repository_.find(target.name, target.version);
    log.model = target.name;
    log.version = model->version();
    if (call.gone && call.gone->load()) throw HttpError(499, "the client closed the connection");
    if (Clock::now() >= deadline) {
      throw HttpError(504, "the request waited longer for its turn than its time allows");
    }
    exchange->read(model->config(), call);
    log.id = call.request.id;
    Model& owner = *model;  // outlives its queue, from where `done` is called
    model->infer(std::move(call), [&owner, exchange, log, arrived](const InferOutcome& outcome) {
      answer(owner, *exchange, log, arrived, outcome);
    });
  } catch (...) {
    const HttpError error = error_of(std::current_exception());
    if (model) model->metrics().failed(error.status(), Clock::now() - arrived);
    log.error = error.what();
    exchange->send(std::move(log), error, nullptr);
  }
}

json Engine::server_metadata() const {
  json extensions{"binary_tensor_data", "classification", "model_configuration", "model_repository",
                  "statistics"};
  if (options_.explicit_control) extensions.push_back("model_repository(unload_dependents)");
  return {{"name", "labelassemble-serve"},
          {"version", LABELASSEMBLE_VERSION},
          {"extensions", extensions}};
}

json Engine::metadata(const ModelName& model) const {
  return metadata_json(*repository_.find(model.name, model.version),
                       repository_.versions(model.name));
}

json Engine::config(const ModelName& model) const {
  return config_json(*repository_.find(model.name, model.version));
}

json Engine::statistics(const ModelName& model) const {
  json list = json::array();
  if (model.name.empty()) {
    for (const auto& one : repository_.ready_models()) list.push_back(statistics_json(*one));
  } else {
    list.push_back(statistics_json(*repository_.find(model.name, model.version)));
  }
  return {{"model_stats", list}};
}

void Engine::load(const std::string& name, bool parameters) {
  if (parameters) {
    throw HttpError(400,
                    "models are loaded from the repository as they are: config and file "
                    "parameters are not supported");
  }
  repository_.load(name);
}

}  // namespace labelassemble::serve
