#include "grpc_server.h"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <limits>
#include <stop_token>
#include <thread>
#include <utility>

#include "grpc_answers.h"
#include "grpc_call.h"
#include "grpc_message.h"
#include "grpc_stream.h"
#include "http2_guard.h"
#include "labelassemble/error.h"
#include "listener.h"

namespace labelassemble::serve {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr std::chrono::milliseconds kPause{20};
constexpr std::chrono::milliseconds kTick{50};            // between two looks at the clock of calls
constexpr std::chrono::milliseconds kCutOff{200};         // after the drain timeout
constexpr std::chrono::milliseconds kGoaway{500};         // to read that no more calls are taken
constexpr std::size_t kLeastRoom = std::size_t{4} << 20;  // with less, gRPC breaks connections
constexpr std::size_t kMostRefused = 64;                  // calls beyond the limit that are told so
constexpr const char* kInfer = "/inference.GRPCInferenceService/ModelInfer";
constexpr const char* kStreamInfer = "/inference.GRPCInferenceService/ModelStreamInfer";

class InferUnaryCall final : public GrpcUnaryCall {
 public:
  using GrpcUnaryCall::GrpcUnaryCall;

 private:
  void handle(grpc::ByteBuffer message, MemoryBudget::Charge charge) override {
    const auto done = [this](const inference::ModelInferResponse& response, AccessEntry entry,
                             const std::optional<HttpError>& error, Held held) {
      if (error) return refuse(*error, std::move(entry));
      answer(write_message(response), std::move(entry), std::move(held));
    };
    context_.engine.infer(
        infer_call(std::move(charge)),
        std::make_shared<GrpcExchange>(context_.options, std::move(message), done));
  }
};

// A call that is answered before its message is read.
class RefusedCall final : public GrpcCall {
 public:
  RefusedCall(const GrpcContext& context, grpc::GenericCallbackServerContext& call, HttpError error)
      : GrpcCall(context, call), error_(std::move(error)) {}
  void start() override {
    log({}, error_, Clock::now());
    expect(context_.options.write_timeout);
    Finish(status_of(error_));
  }

 private:
  const HttpError error_;
};

// A connection that is open, or was when it was last looked at.
struct Connection {
  std::shared_ptr<Http2Guard> guard;
  std::string peer;
};

// An address of IPv4 is shown as such.
std::string peer_name(tcp::endpoint endpoint) {
  const asio::ip::address address = endpoint.address();
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    endpoint.address(asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()));
  }
  return address_of(endpoint);
}

int at_most_int(std::size_t value) {
  return static_cast<int>(std::min<std::size_t>(value, std::numeric_limits<int>::max()));
}

int milliseconds_of(milliseconds time) {
  return at_most_int(static_cast<std::size_t>(std::max<milliseconds::rep>(1, time.count())));
}

// gRPC and protobuf say what hostile clients do at length, and would wait for whoever reads it.
void quiet(gpr_log_func_args*) {}

}  // namespace

class GrpcServer::Parts final : public grpc::CallbackGenericService {
 public:
  Parts(asio::io_context& io, const Options& options, Engine& engine, Metrics& metrics,
        MemoryBudget& memory, AccessLog& log)
      : io_(io),
        context_{options, engine, metrics, memory, log, calls_},
        acceptor_(listen_on(io, options.host, *options.grpc_port)),
        pause_(io),
        tick_(io),
        guards_(options, [this] { return calls_.size() < most_calls_in_sum(); }) {
    gpr_set_log_function(quiet);
    google::protobuf::SetLogHandler(nullptr);
    build();
    accept();
    tick();
  }

  ~Parts() override {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    if (server_ && !shutdown_.joinable()) server_->Shutdown(std::chrono::system_clock::now());
    if (shutdown_.joinable()) shutdown_.join();
  }

  std::string url() const { return address_of(acceptor_.local_endpoint()); }

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* call) override {
    std::shared_ptr<GrpcCall> made = call_of(*call);
    GrpcCall* const reactor = made.get();
    const std::string peer = made->peer();
    const std::size_t of_peer = calls_.add(std::move(made));
    reactor->start();
    guards_.begun();
    // More than it was allowed at once: it resets calls faster than gRPC forgets them.
    if (of_peer == most_calls() + kMostRefused) {
      asio::post(io_, [this, peer] { reset_connection(peer); });
    }
    return reactor;
  }

  void drain(std::function<void(std::size_t)> done) {
    boost::system::error_code ignored;
    pause_.cancel();
    acceptor_.close(ignored);
    const auto timeout = context_.options.drain_timeout;
    last_call_ = Clock::now();
    until_ = last_call_ + timeout;
    shutdown_ = std::thread([this, timeout, done = std::move(done)]() mutable {
      // Streams are ended first, so that the shutdown need not wait for them.
      for (const auto& call : calls_.all()) call->drain();
      server_->Shutdown(std::chrono::system_clock::now() + timeout + kCutOff);
      asio::post(io_, [this, done = std::move(done)] {
        tick_.cancel();
        drained_ = true;
        done(cut_off_);
      });
    });
  }

 private:
  void build() {
    const Options& options = context_.options;
    grpc::ServerBuilder builder;
    builder.RegisterCallbackGenericService(this);
    const std::size_t room = std::max(grpc_share(options.max_memory), kLeastRoom);
    // What is longer than --max-body the call refuses: of a message that gRPC refuses, all that can
    // be known is that it never came.
    builder.SetMaxReceiveMessageSize(at_most_int(room / 4 * 3));
    builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, at_most_int(most_calls()));
    builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, at_most_int(options.max_header));
    builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // else windows grow without a reader
    // A connection without calls, one that never becomes HTTP/2, one whose client is gone.
    const int idle = milliseconds_of(options.idle_timeout);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, idle);
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, idle);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, idle);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                               milliseconds_of(options.read_timeout));
    grpc::ResourceQuota quota("labelassemble");
    quota.Resize(room);
    builder.SetResourceQuota(quota);
    // Connections are accepted here, so that they can be counted.
    connections_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        grpc::InsecureServerCredentials());
    server_ = builder.BuildAndStart();
    if (!server_) throw Error("gRPC cannot be started");
  }

  std::shared_ptr<GrpcCall> call_of(grpc::GenericCallbackServerContext& call) {
    const auto& methods = grpc_methods();
    const auto method = methods.find(call.method());
    const bool known = method != methods.end();
    const bool health = known && method->second.where == GrpcMethod::Where::kHere;
    if (!health && calls_.size() >= context_.options.max_connections) {
      return std::make_shared<RefusedCall>(
          context_, call, HttpError(503, "too many calls are under way (--max-connections)", 1));
    }
    if (known) return std::make_shared<GrpcAnswerCall>(context_, call, method->second);
    if (call.method() == kInfer) return std::make_shared<InferUnaryCall>(context_, call);
    if (call.method() == kStreamInfer) return std::make_shared<GrpcStreamCall>(context_, call);
    return std::make_shared<RefusedCall>(context_, call, not_served(call.method()));
  }

  void accept() {
    acceptor_.async_accept([this](boost::system::error_code error, tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (error) {
        // Out of file descriptors, most likely: try again when some may be free.
        pause_.expires_after(kPause);
        pause_.async_wait([this](boost::system::error_code stopped) {
          if (!stopped && acceptor_.is_open()) accept();
        });
        return;
      }
      take(std::move(socket));
      accept();
    });
  }

  void take(tcp::socket socket) {
    count_connections();
    const std::size_t most = context_.options.max_connections;
    // Where all are at work, there are as many calls: a new one is told so, and health is answered.
    if (open_.size() >= most && !close_oldest_idle() && open_.size() >= most + kMostRefused) return;
    boost::system::error_code error;
    const std::string peer = peer_name(socket.remote_endpoint(error));
    socket.set_option(tcp::no_delay(true), error);
    try {
      const Http2Guards::Guarded guarded = guards_.guard(std::move(socket), peer);
      open_.push_back({guarded.guard, peer});
      show_connections();
      grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
      parameters.listener_fd = acceptor_.native_handle();
      parameters.fd = guarded.grpc;
      connections_->HandleNewConnection(&parameters);
      asio::post(guards_.io(), [guard = guarded.guard] { guard->start(); });
    } catch (const boost::system::system_error&) {
      return;  // out of file descriptors, most likely; the client's is closed
    }
  }

  void count_connections() {
    std::erase_if(open_, [](const Connection& one) { return !one.guard->is_open(); });
    show_connections();
  }

  // Connections without a call must not keep out one that has a call.
  bool close_oldest_idle() {
    auto oldest = open_.end();
    for (auto one = open_.begin(); one != open_.end(); ++one) {
      if (calls_.of_peer(one->peer) > 0) continue;
      if (oldest == open_.end() || one->guard->idle_since() < oldest->guard->idle_since()) {
        oldest = one;
      }
    }
    if (oldest == open_.end()) return false;
    asio::post(guards_.io(), [guard = oldest->guard] { guard->close(); });
    open_.erase(oldest);
    return true;
  }

  void show_connections() {
    context_.metrics.grpc_connections().Set(static_cast<double>(open_.size()));
  }

  // At the end gRPC waits 20 s for clients to acknowledge it, which one that is silent never does.
  void close_connections() {
    for (const Connection& one : open_) {
      asio::post(guards_.io(), [guard = one.guard] { guard->close(); });
    }
  }

  void reset_connection(const std::string& peer) {
    for (const Connection& one : open_) {
      if (one.peer == peer) asio::post(guards_.io(), [guard = one.guard] { guard->reset(); });
    }
  }

  // That a connection may have at once, and all together, with those that gRPC has yet to forget.
  std::size_t most_calls() const { return context_.options.max_connections + kMostRefused; }
  std::size_t most_calls_in_sum() const { return 2 * most_calls(); }

  void tick() {
    tick_.expires_after(kTick);
    tick_.async_wait([this](boost::system::error_code stopped) {
      if (stopped || drained_) return;
      count_connections();
      const Clock::time_point now = Clock::now();
      const auto calls = calls_.all();
      context_.metrics.grpc_calls().Set(static_cast<double>(calls.size()));
      for (const auto& call : calls) call->check(now);
      if (now >= until_ && cut_off_ == 0) cut_off_ = calls.size();
      if (!calls.empty()) last_call_ = now;
      const bool draining = until_ != Clock::time_point::max();
      if (draining && now - last_call_ >= kGoaway) close_connections();
      tick();
    });
  }

  asio::io_context& io_;
  GrpcCalls calls_;
  const GrpcContext context_;
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  asio::steady_timer tick_;
  Http2Guards guards_;
  std::vector<Connection> open_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
  std::unique_ptr<grpc::Server> server_;
  std::thread shutdown_;
  Clock::time_point until_ = Clock::time_point::max();
  Clock::time_point last_call_{};
  std::size_t cut_off_ = 0;
  bool drained_ = false;
};

GrpcServer::GrpcServer(asio::io_context& io, const Options& options, Engine& engine,
                       Metrics& metrics, MemoryBudget& memory, AccessLog& log)
    : parts_(std::make_unique<Parts>(io, options, engine, metrics, memory, log)) {}
GrpcServer::~GrpcServer() = default;

std::string GrpcServer::url() const { return parts_->url(); }
void GrpcServer::drain(std::function<void(std::size_t)> done) { parts_->drain(std::move(done)); }

std::size_t grpc_share(std::size_t max_memory) { return max_memory / 4; }

}  // namespace labelassemble::serve
