// What stands between a client's connection and gRPC, whose HTTP/2 takes whatever is sent: headers
// without an end, calls that are reset as fast as they are begun, frames that carry nothing.
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "options.h"

namespace labelassemble::serve {

struct FrameHeader {
  std::size_t length;
  std::uint8_t type;
  std::uint8_t flags;
};

// Reads the headers of HTTP/2's frames from bytes that come in pieces.
class Frames {
 public:
  static constexpr std::uint8_t kData = 0, kHeaders = 1, kContinuation = 9;
  static constexpr std::uint8_t kEndStream = 1;

  explicit Frames(std::size_t before) : left_(before) {}  // bytes before the first frame

  // How many of the bytes may go on: up to the first header that `take` does not accept, or that is
  // not whole.
  template <typename Take>
  std::size_t scan(std::span<const std::uint8_t> bytes, Take take) {
    constexpr std::size_t kHeader = 9;
    std::size_t at = 0;
    while (at < bytes.size()) {
      if (left_ > 0) {
        const std::size_t step = std::min(left_, bytes.size() - at);
        at += step;
        left_ -= step;
        continue;
      }
      if (bytes.size() - at < kHeader) break;
      const auto* head = bytes.data() + at;
      const FrameHeader header{std::size_t{head[0]} << 16 | std::size_t{head[1]} << 8 | head[2],
                               head[3], head[4]};
      if (!take(header)) break;
      at += kHeader;
      left_ = header.length;
    }
    return at;
  }

 private:
  std::size_t left_;  // of the payload
};

// Calls go to gRPC only as fast as it begins them: it would keep as many as come, and while it
// reads what came it answers nobody.
class CallGate {
 public:
  bool is_open() const;
  void pass();  // one more
  // gRPC has begun one; from any thread.
  void begun() { begun_.fetch_add(1, std::memory_order_relaxed); }
  // From time to time: what has not begun since the time before is no call, or a refused one.
  void forget();

 private:
  std::int64_t ahead() const { return passed_ - begun_.load(std::memory_order_relaxed); }

  std::int64_t passed_ = 0;
  std::int64_t lately_ = 0;  // passed since it last forgot
  std::atomic<std::int64_t> begun_{0};
};

class Http2Guards;

// One connection: carries bytes both ways between a client and gRPC, on the guards' thread.
class Http2Guard : public std::enable_shared_from_this<Http2Guard> {
 public:
  using Client = boost::asio::ip::tcp::socket;
  using Grpc = boost::asio::local::stream_protocol::socket;

  Http2Guard(Http2Guards& all, Client client, Grpc grpc);

  void start();
  void read_client() { go_on(true); }  // where it was held up
  void close();
  // Without a word more: a client that still writes would else wait for a closed socket.
  void reset();
  bool is_open() const { return open_; }  // from any thread
  // When it last carried something of a call, or was made; from any thread.
  std::chrono::steady_clock::time_point idle_since() const { return idle_since_; }

 private:
  struct Way {
    Frames frames;
    std::vector<std::uint8_t> bytes;
    std::size_t sent = 0;
    std::size_t allowed = 0;  // to be sent
  };

  template <typename From, typename To>
  void carry(Way& way, From& from, To& to);
  template <typename Socket>
  void wait(Socket& socket, Grpc::wait_type what, bool from_client);
  void go_on(bool from_client);
  void wait_while_held();
  bool take(bool from_client, const FrameHeader& header);
  bool take_from_client(const FrameHeader& header);
  void take_from_grpc(const FrameHeader& header);

  Http2Guards& all_;
  Client client_;
  Grpc grpc_;
  Way from_client_;
  Way from_grpc_;
  std::atomic<bool> open_{true};
  std::atomic<std::chrono::steady_clock::time_point> idle_since_;
  enum class Hold { kNone, kCredit, kGate };
  Hold hold_ = Hold::kNone;  // for what the next frame of the client must wait
  std::size_t headers_ = 0;  // bytes of those that are being read
  double credit_;            // frames that the client may send beside what is answered
  std::chrono::steady_clock::time_point credited_;
  boost::asio::steady_timer pause_;
  boost::asio::steady_timer stalled_;
};

// All of them, and the thread on which they run.
class Http2Guards {
 public:
  // `has_room` says, on any thread, whether there may be more calls than there are.
  Http2Guards(const Options& options, std::function<bool()> has_room);
  ~Http2Guards();

  struct Guarded {
    std::shared_ptr<Http2Guard> guard;
    int grpc = -1;  // the descriptor that gRPC is to have
  };
  // Throws boost::system::system_error, most likely for want of descriptors.
  Guarded guard(boost::asio::ip::tcp::socket client, const std::string& peer);

  // Whom gRPC's name for its peer means, which is one of the names that `guard` gave.
  static std::string peer_of(const std::string& name);

  boost::asio::io_context& io() { return io_; }
  const Options& options() const { return options_; }
  // gRPC has begun a call; from any thread.
  void begun() { gate_.begun(); }
  // May its client begin a call? If others wait for that, one, in its turn.
  bool pass(const Http2Guard* guard);
  // Calls read_client() when it is its turn.
  void wait_for_gate(std::shared_ptr<Http2Guard> guard);

 private:
  bool is_open() const { return gate_.is_open() && has_room_(); }
  void look_at_gate();
  void forget();

  const Options& options_;
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  const std::function<bool()> has_room_;
  CallGate gate_;
  std::deque<std::shared_ptr<Http2Guard>> waiting_;
  const Http2Guard* next_ = nullptr;  // whose turn it is
  bool looking_ = false;
  boost::asio::steady_timer look_;
  boost::asio::steady_timer forget_;
  const std::string name_;  // of this process among those that share its network
  std::size_t made_ = 0;
  std::thread thread_;
};

}  // namespace labelassemble::serve
