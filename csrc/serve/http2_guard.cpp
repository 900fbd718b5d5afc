#include "http2_guard.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/post.hpp>
#include <random>
#include <utility>

namespace labelassemble::serve {
namespace {

namespace asio = boost::asio;
using asio::local::stream_protocol;

constexpr std::size_t kChunk = std::size_t{16} << 10;  // a connection that is stalled keeps two
constexpr int kTurns = 8;                              // before others have theirs
constexpr std::size_t kPreface = 24;                   // what a client begins with
constexpr std::int64_t kMostAhead = 128;               // calls
constexpr std::chrono::milliseconds kLook{1};
constexpr std::chrono::milliseconds kForget{500};
constexpr std::chrono::milliseconds kPause{50};

// Frames of a client cost 1 of its credit, save those that carry data. A call that is answered
// earns what its frames cost, with those that manage windows and ask for signs of life.
constexpr double kCredit = 1000;
constexpr double kCreditPerSecond = 200;
constexpr double kCreditPerCall = 8;
constexpr double kCreditPerAnswer = 4;     // each frame of data, of which a stream has many
constexpr std::size_t kCarriesData = 512;  // bytes, with which a frame costs nothing
constexpr std::size_t kHeadersOver = 4;    // times --max-header, to which gRPC still answers

// Between the name of this process's socket and the client's address.
constexpr char kPeer = '@';

std::string random_name() {
  std::random_device random;
  return "labelassemble-serve-" + std::to_string(random()) + "-" + std::to_string(random());
}

}  // namespace

bool CallGate::is_open() const { return ahead() < kMostAhead; }

void CallGate::pass() {
  ++passed_;
  ++lately_;
}

void CallGate::forget() {
  passed_ -= std::max<std::int64_t>(0, ahead() - lately_);
  lately_ = 0;
}

Http2Guard::Http2Guard(Http2Guards& all, Client client, Grpc grpc)
    : all_(all),
      client_(std::move(client)),
      grpc_(std::move(grpc)),
      from_client_{.frames = Frames(kPreface), .bytes = {}},
      from_grpc_{.frames = Frames(0), .bytes = {}},
      idle_since_(std::chrono::steady_clock::now()),
      credit_(kCredit),
      credited_(idle_since_),
      pause_(all.io()),
      stalled_(all.io()) {}

void Http2Guard::start() {
  go_on(true);
  go_on(false);
}

void Http2Guard::go_on(bool from_client) {
  if (!open_) return;
  if (from_client) return carry(from_client_, client_, grpc_);
  carry(from_grpc_, grpc_, client_);
}

void Http2Guard::close() {
  boost::system::error_code ignored;
  client_.close(ignored);
  grpc_.close(ignored);
  pause_.cancel();
  stalled_.cancel();
  open_ = false;
}

void Http2Guard::reset() {
  boost::system::error_code ignored;
  client_.set_option(asio::socket_base::linger(true, 0), ignored);
  close();
}

template <typename From, typename To>
void Http2Guard::carry(Way& way, From& from, To& to) {
  const bool from_client = &way == &from_client_;
  boost::system::error_code error;
  for (int turn = 0; turn < kTurns; ++turn) {
    if (from_client) hold_ = Hold::kNone;
    way.allowed +=
        way.frames.scan(std::span(way.bytes).subspan(way.allowed),
                        [&](const FrameHeader& header) { return take(from_client, header); });
    if (!open_) return;
    if (way.sent < way.allowed) {
      way.sent +=
          to.write_some(asio::buffer(way.bytes.data() + way.sent, way.allowed - way.sent), error);
      if (error == asio::error::would_block) return wait(to, Grpc::wait_write, from_client);
      if (error && from_client) return;  // what gRPC has said at its end is carried still
      if (error) return close();
      if (way.sent < way.allowed) continue;
    }
    if (from_client && hold_ != Hold::kNone) return wait_while_held();
    way.bytes.erase(way.bytes.begin(), way.bytes.begin() + static_cast<std::ptrdiff_t>(way.sent));
    way.sent = way.allowed = 0;
    const std::size_t before = way.bytes.size();  // a header that is not whole
    way.bytes.resize(before + kChunk);
    const std::size_t got = from.read_some(asio::buffer(way.bytes.data() + before, kChunk), error);
    way.bytes.resize(before + got);
    if (error == asio::error::would_block) {
      way.bytes.shrink_to_fit();
      return wait(from, Grpc::wait_read, from_client);
    }
    if (error && !from_client) return close();
    if (error) {  // gRPC ends its calls, and then the connection
      grpc_.shutdown(Grpc::shutdown_send, error);
      return;
    }
  }
  asio::post(all_.io(), [self = shared_from_this(), from_client] { self->go_on(from_client); });
}

template <typename Socket>
void Http2Guard::wait(Socket& socket, Grpc::wait_type what, bool from_client) {
  const bool to_client = !from_client && what == Grpc::wait_write;
  if (to_client) {
    stalled_.expires_after(all_.options().write_timeout);
    stalled_.async_wait([self = shared_from_this()](boost::system::error_code stopped) {
      if (!stopped) self->reset();
    });
  }
  socket.async_wait(
      static_cast<typename Socket::wait_type>(what),
      [self = shared_from_this(), from_client, to_client](boost::system::error_code error) {
        if (to_client) self->stalled_.cancel();
        if (!error) self->go_on(from_client);
      });
}

bool Http2Guard::take(bool from_client, const FrameHeader& header) {
  if (header.type == Frames::kHeaders || header.type == Frames::kData) {
    idle_since_ = std::chrono::steady_clock::now();
  }
  if (from_client) return take_from_client(header);
  take_from_grpc(header);
  return true;
}

bool Http2Guard::take_from_client(const FrameHeader& header) {
  const bool headers = header.type == Frames::kHeaders;
  const bool of_headers = headers || header.type == Frames::kContinuation;
  const std::size_t length = (headers ? 0 : headers_) + header.length;
  if (of_headers && length > kHeadersOver * all_.options().max_header) {
    reset();
    return false;
  }
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double> passed = now - credited_;
  credited_ = now;
  credit_ = std::min(kCredit, credit_ + passed.count() * kCreditPerSecond);
  const bool free = header.type == Frames::kData && header.length >= kCarriesData;
  if (!free && credit_ < 1) {
    hold_ = Hold::kCredit;
  } else if (headers && !all_.pass(this)) {
    hold_ = Hold::kGate;
  } else {
    if (!free) credit_ -= 1;
    if (of_headers) headers_ = length;
  }
  return hold_ == Hold::kNone;
}

void Http2Guard::wait_while_held() {
  if (hold_ == Hold::kGate) return all_.wait_for_gate(shared_from_this());
  pause_.expires_after(kPause);
  pause_.async_wait([self = shared_from_this()](boost::system::error_code stopped) {
    if (!stopped) self->read_client();
  });
}

void Http2Guard::take_from_grpc(const FrameHeader& header) {
  const bool answered = header.type == Frames::kHeaders && (header.flags & Frames::kEndStream) != 0;
  const double earned = answered                       ? kCreditPerCall
                        : header.type == Frames::kData ? kCreditPerAnswer
                                                       : 0;
  credit_ = std::min(kCredit, credit_ + earned);
}

Http2Guards::Http2Guards(const Options& options, std::function<bool()> has_room)
    : options_(options),
      work_(asio::make_work_guard(io_)),
      has_room_(std::move(has_room)),
      look_(io_),
      forget_(io_),
      name_(random_name()),
      thread_([this] {
        forget();
        io_.run();
      }) {}

Http2Guards::~Http2Guards() {
  io_.stop();
  thread_.join();
}

Http2Guards::Guarded Http2Guards::guard(asio::ip::tcp::socket client, const std::string& peer) {
  const auto protocol = client.local_endpoint().protocol();
  Http2Guard::Client socket(io_, protocol, client.release());
  stream_protocol::socket ours(io_);
  stream_protocol::socket theirs(io_);
  asio::local::connect_pair(ours, theirs);
  // gRPC takes the name of the other end for its peer's.
  ours.bind(stream_protocol::endpoint(std::string(1, '\0') + name_ + "-" + std::to_string(made_++) +
                                      kPeer + peer));
  socket.non_blocking(true);
  ours.non_blocking(true);
  theirs.native_non_blocking(true);
  Guarded guarded;
  guarded.grpc = theirs.release();
  guarded.guard = std::make_shared<Http2Guard>(*this, std::move(socket), std::move(ours));
  return guarded;
}

std::string Http2Guards::peer_of(const std::string& name) {
  std::string peer = name.substr(name.find(kPeer) + 1);
  for (const auto& [written, meant] : {std::pair{"%5B", "["}, std::pair{"%5D", "]"}}) {
    const std::size_t at = peer.find(written);
    if (at != std::string::npos) peer.replace(at, 3, meant);
  }
  return peer;
}

bool Http2Guards::pass(const Http2Guard* guard) {
  if (!is_open() || (guard != next_ && !waiting_.empty())) return false;
  next_ = nullptr;
  gate_.pass();
  return true;
}

void Http2Guards::wait_for_gate(std::shared_ptr<Http2Guard> guard) {
  waiting_.push_back(std::move(guard));
  if (!looking_) look_at_gate();
}

void Http2Guards::look_at_gate() {
  looking_ = true;
  look_.expires_after(kLook);
  look_.async_wait([this](boost::system::error_code) {
    for (std::size_t left = waiting_.size(); left > 0 && is_open(); --left) {
      const auto guard = std::move(waiting_.front());
      waiting_.pop_front();
      next_ = guard.get();
      guard->read_client();
      next_ = nullptr;
    }
    looking_ = false;
    if (!waiting_.empty()) look_at_gate();
  });
}

void Http2Guards::forget() {
  forget_.expires_after(kForget);
  forget_.async_wait([this](boost::system::error_code) {
    gate_.forget();
    forget();
  });
}

}  // namespace labelassemble::serve
