// One connection: reads requests one after another, hands each to the service, writes its answer.
#pragma once

#include <array>
#include <atomic>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "access_log.h"
#include "body.h"
#include "http_message.h"
#include "memory_budget.h"
#include "metrics.h"
#include "options.h"
#include "service.h"

namespace labelassemble::serve {

// What all sessions of a server share.
struct SessionContext {
  const Options& options;
  Service& service;
  Metrics& metrics;
  MemoryBudget& memory;
  AccessLog& log;
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  // `refuse`: there are too many connections, so this one learns whether the server is well, or
  // 503.
  Session(boost::asio::ip::tcp::socket socket, const SessionContext& context, bool refuse);
  ~Session();

  void start();

  // Closes as soon as no request is under way. May be called from any thread.
  void drain();
  // Closes now.
  void abort();

  // Since when it has waited for a request: its first byte, or for a while the rest of its header.
  // Nothing while a request is under way. Only on the thread of the server.
  std::optional<std::chrono::steady_clock::time_point> idle_since() const;
  // Closes an idle one at once.
  void close_idle() { close(); }

 private:
  using Parser = boost::beast::http::request_parser<ChargedBody>;
  using Response = boost::beast::http::response<boost::beast::http::string_body>;
  using Clock = std::chrono::steady_clock;

  void read_header();
  void read_more_of_header();
  bool parse_header(std::size_t length);
  void on_header();
  void read_body();
  void on_body(boost::beast::error_code error);
  void fail_reading(boost::beast::error_code error);
  void refuse(const HttpError& error);
  void handle();
  void watch();
  void watch_half_closed();
  void write(HttpResponse response, bool keep_alive);
  void on_written(boost::beast::error_code error, std::size_t bytes);
  void linger();
  void discard();
  void close();

  boost::beast::tcp_stream stream_;
  const SessionContext context_;
  const bool refuse_;
  std::string peer_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  std::optional<Response> response_;
  Held held_;  // for the response's body
  // As it came: what follows a chunked body, Beast adds to the fields.
  boost::beast::http::header<true, boost::beast::http::fields> header_;
  AccessEntry log_;
  Clock::time_point arrived_{};
  bool waiting_ = false;  // for a request or the rest of its header
  Clock::time_point waiting_since_{};
  std::size_t scanned_ = 0;  // bytes of the buffer that do not hold the end of the header
  bool draining_ = false;
  bool keep_alive_ = false;
  std::shared_ptr<std::atomic<bool>> gone_;
  std::array<char, 16384> discarded_;
  std::size_t discarded_bytes_ = 0;
};

}  // namespace labelassemble::serve
