#include "session.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <cctype>
#include <cerrno>
#include <string_view>
#include <utility>

#include "header_check.h"

namespace labelassemble::serve {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr std::chrono::seconds kLinger{2};
constexpr std::size_t kMaxDiscarded = std::size_t{16} << 20;
constexpr std::size_t kReadSize = std::size_t{16} << 10;
constexpr std::string_view kEndOfHeader = "\r\n\r\n";
// A header takes a moment; one that takes longer may be closed like a connection that sends
// nothing.
constexpr std::chrono::seconds kHeaderGrace{2};

bool is_health(const std::string& target) {
  return target == "/v2/health/live" || target == "/v2/health/ready";
}

std::string address_of(const asio::ip::tcp::socket& socket) {
  beast::error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  if (error) return "?";
  return endpoint.address().to_string() + ":" + std::to_string(endpoint.port());
}

}  // namespace

Session::Session(asio::ip::tcp::socket socket, const SessionContext& context, bool refuse)
    : stream_(std::move(socket)),
      context_(context),
      refuse_(refuse),
      peer_(address_of(stream_.socket())),
      buffer_(context.options.max_header + kReadSize) {
  beast::error_code ignored;
  stream_.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  context_.metrics.connections().Increment();
}

Session::~Session() { context_.metrics.connections().Decrement(); }

void Session::start() {
  asio::dispatch(stream_.get_executor(), [self = shared_from_this()] { self->read_header(); });
}

void Session::drain() {
  asio::post(stream_.get_executor(), [self = shared_from_this()] {
    self->draining_ = true;
    if (self->waiting_ && self->buffer_.size() == 0) self->close();
  });
}

std::optional<Session::Clock::time_point> Session::idle_since() const {
  if (!waiting_) return std::nullopt;
  if (buffer_.size() > 0 && Clock::now() - waiting_since_ < kHeaderGrace) return std::nullopt;
  return waiting_since_;
}

void Session::abort() {
  asio::post(stream_.get_executor(), [self = shared_from_this()] { self->close(); });
}

void Session::read_header() {
  parser_.emplace();
  parser_->header_limit(static_cast<std::uint32_t>(context_.options.max_header));
  parser_->body_limit(context_.options.max_body);
  parser_->get().body().charge.emplace(context_.memory);
  response_.reset();
  log_ = {};
  header_ = {};
  waiting_ = true;
  waiting_since_ = Clock::now();
  scanned_ = 0;
  stream_.expires_after(
      refuse_ ? std::min<std::chrono::milliseconds>(kHeaderGrace, context_.options.idle_timeout)
              : context_.options.idle_timeout);
  read_more_of_header();
}

// The header is looked at as it came before Beast reads it, since Beast forgives what a proxy may
// have read in another way.
void Session::read_more_of_header() {
  const auto data = buffer_.data();
  std::string_view text(static_cast<const char*>(data.data()), data.size());
  while (text.starts_with("\r\n")) {  // RFC 9112, 2.2: empty lines before a request are passed over
    buffer_.consume(2);
    text.remove_prefix(2);
    scanned_ = 0;
  }
  const std::size_t end = text.find(kEndOfHeader, scanned_);
  const std::size_t length =
      end == std::string_view::npos ? text.size() : end + kEndOfHeader.size();
  if (length > context_.options.max_header) return fail_reading(http::error::header_limit);
  if (end != std::string_view::npos) {
    if (parse_header(length)) on_header();
    return;
  }
  // So that a line without a carriage return is refused, and not waited for.
  if (text.size() > scanned_) {
    const std::size_t from = scanned_ > 0 ? scanned_ - 1 : 0;
    const std::string_view part =
        text.substr(from, text.size() - from - (text.ends_with('\r') ? 1 : 0));
    const auto error =
        check_header_text(from > 0 && part.starts_with('\n') ? part.substr(1) : part);
    if (error) return refuse(*error);
  }
  scanned_ = text.size() < 3 ? 0 : text.size() - 3;
  stream_.async_read_some(buffer_.prepare(std::min(kReadSize, buffer_.max_size() - buffer_.size())),
                          [self = shared_from_this()](beast::error_code error, std::size_t bytes) {
                            if (error) return self->fail_reading(error);
                            self->buffer_.commit(bytes);
                            self->read_more_of_header();
                          });
}

bool Session::parse_header(std::size_t length) {
  const std::string_view text(static_cast<const char*>(buffer_.data().data()), length);
  if (const auto error = check_header_text(text)) {
    refuse(*error);
    return false;
  }
  beast::error_code error;
  const std::size_t used = parser_->put(asio::buffer(text.data(), text.size()), error);
  if (!error && !parser_->is_header_done()) error = http::error::partial_message;
  if (error) {
    fail_reading(error);
    return false;
  }
  buffer_.consume(used);
  return true;
}

void Session::on_header() {
  waiting_ = false;
  header_ = parser_->get();
  const auto& request = header_;
  keep_alive_ = parser_->get().keep_alive();
  log_.method = std::string(request.method_string());
  log_.target = std::string(request.target());
  log_.traceparent = traceparent_of(request);
  if (const auto error = check_header(request)) return refuse(*error);
  if (refuse_ && !is_health(log_.target)) {
    return refuse(HttpError(503, "too many connections are open", 1));
  }
  if (refuse_) keep_alive_ = false;
  if (!path_of(log_.target)) {
    return refuse(HttpError(400, "the target must be a path or an http URL"));
  }
  const auto length = parser_->content_length();
  if (length && *length > context_.options.max_body) {
    return fail_reading(http::error::body_limit);
  }
  if (!request[http::field::expect].empty() && request.version() >= 11) {
    auto interim = std::make_shared<http::response<http::empty_body>>(http::status::continue_, 11);
    http::async_write(stream_, *interim,
                      [self = shared_from_this(), interim](beast::error_code failed, std::size_t) {
                        if (failed) return self->close();
                        self->read_body();
                      });
    return;
  }
  read_body();
}

// Answers a request that is not read further, and closes: what follows could be anything.
void Session::refuse(const HttpError& error) {
  waiting_ = false;
  arrived_ = Clock::now();
  write(error_response(error.status(), error.what(), error.retry_after_s()), false);
}

void Session::read_body() {
  stream_.expires_after(context_.options.read_timeout);
  http::async_read(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](beast::error_code error, std::size_t) { self->on_body(error); });
}

void Session::on_body(beast::error_code error) {
  if (error) return fail_reading(error);
  handle();
}

// The request cannot be read: says why where the client still listens, and closes.
void Session::fail_reading(beast::error_code error) {
  waiting_ = false;
  arrived_ = Clock::now();
  const bool begun = buffer_.size() > 0 || (parser_ && parser_->got_some());
  if (parser_ && parser_->get().body().refused) return refuse(*parser_->get().body().refused);
  if (error == beast::error::timeout) {
    // Beast has closed the socket; a client that was silent all along needs no word either.
    return close();
  }
  if (error == http::error::header_limit) {
    return write(error_response(431, "the header has more than " +
                                         std::to_string(context_.options.max_header) + " bytes"),
                 false);
  }
  if (error == http::error::body_limit) {
    return write(error_response(413, "the body has more than " +
                                         std::to_string(context_.options.max_body) + " bytes"),
                 false);
  }
  const bool malformed = error.category() == make_error_code(http::error::bad_method).category();
  const bool ended = error == asio::error::eof;  // of what the client sends; it may still listen
  if ((!malformed && !ended) || error == http::error::end_of_stream || !begun) return close();
  if (error == http::error::partial_message || error == asio::error::eof) {
    return write(error_response(400, "the request ends before it is whole"), false);
  }
  write(error_response(400, "the request is not valid HTTP: " + error.message()), false);
}

void Session::handle() {
  stream_.expires_never();
  arrived_ = Clock::now();
  auto message = parser_->release();
  HttpRequest request(std::move(*message.body().charge));
  request.method = std::string(header_.method_string());
  request.target =
      path_of(std::string_view(header_.target().data(), header_.target().size())).value();
  request.content_encoding = std::string(header_[http::field::content_encoding]);
  std::transform(request.content_encoding.begin(), request.content_encoding.end(),
                 request.content_encoding.begin(), [](unsigned char c) { return std::tolower(c); });
  request.accept_encoding = std::string(header_[http::field::accept_encoding]);
  if (const auto length = header_.find("Inference-Header-Content-Length");
      length != header_.end()) {
    request.inference_header_length = std::string(length->value());
  }
  request.body = std::move(message.body().bytes);
  log_.request_bytes = request.body.size();
  request.arrived = arrived_;
  gone_ = std::make_shared<std::atomic<bool>>(false);
  request.gone = gone_;
  watch();
  context_.service.handle(std::move(request), [self = shared_from_this()](HttpResponse response) {
    asio::post(self->stream_.get_executor(),
               [self, response = std::make_shared<HttpResponse>(std::move(response))] {
                 self->write(std::move(*response), self->keep_alive_);
               });
  });
}

// While the request is computed, notices that the client leaves, so that its turn in the queue is
// not spent on nobody.
void Session::watch() {
  stream_.socket().async_wait(asio::ip::tcp::socket::wait_read,
                              [self = shared_from_this(), gone = gone_](beast::error_code error) {
                                if (error || gone != self->gone_) return;  // it is answered
                                char byte = 0;
                                const auto got = ::recv(self->stream_.socket().native_handle(),
                                                        &byte, 1, MSG_PEEK | MSG_DONTWAIT);
                                // Otherwise it is the client's next request, which may wait.
                                if (got < 0 && errno != EAGAIN && errno != EINTR) gone->store(true);
                                if (got == 0) self->watch_half_closed();
                              });
}

// The client sends no more. It may still listen, or have left: then its system answers what is sent
// to it with a reset. An interim answer, which clients pass over, finds that out.
void Session::watch_half_closed() {
  constexpr std::string_view kInterim = "HTTP/1.1 100 Continue\r\n\r\n";
  if (header_.version() < 11) {  // HTTP/1.0 has none
    gone_->store(true);
    return;
  }
  stream_.socket().async_wait(asio::ip::tcp::socket::wait_error,
                              [gone = gone_](beast::error_code error) {
                                if (!error) gone->store(true);
                              });
  const auto sent = ::send(stream_.socket().native_handle(), kInterim.data(), kInterim.size(),
                           MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(kInterim.size())) gone_->store(true);
}

void Session::write(HttpResponse response, bool keep_alive) {
  if (!stream_.socket().is_open()) return;
  beast::error_code ignored;
  stream_.socket().cancel(ignored);  // ends watch()
  gone_.reset();
  const bool closing = !keep_alive || draining_;
  response_.emplace(static_cast<http::status>(response.status), header_.version() == 10 ? 10 : 11);
  response_->set(http::field::server, "labelassemble-serve");
  for (const auto& [name, value] : response.headers) response_->set(name, value);
  if (!response.body.empty()) response_->set(http::field::content_type, response.content_type);
  response_->keep_alive(!closing);
  response_->body() = std::move(response.body);
  held_ = std::move(response.held);
  response_->prepare_payload();
  if (log_.method == "HEAD") response_->body().clear();

  const std::string method = std::move(log_.method);
  const std::string target = std::move(log_.target);
  const std::string traceparent = std::move(log_.traceparent);
  const std::uint64_t bytes = log_.request_bytes;
  log_ = std::move(response.log);
  log_.method = method;
  log_.target = target;
  log_.traceparent = traceparent;
  log_.request_bytes = bytes;
  log_.status = response.status;
  log_.response_bytes = response_->body().size();
  keep_alive_ = !closing;

  stream_.expires_after(context_.options.write_timeout);
  http::async_write(stream_, *response_,
                    [self = shared_from_this()](beast::error_code error, std::size_t bytes) {
                      self->on_written(error, bytes);
                    });
}

void Session::on_written(beast::error_code error, std::size_t) {
  if (error) log_.error = "the answer could not be written: " + error.message();
  response_.reset();  // a connection may stay open for long
  held_.reset();
  context_.metrics.count_response(log_.status);
  log_.peer = peer_;
  log_.duration_ms = std::chrono::duration<double, std::milli>(Clock::now() - arrived_).count();
  context_.log.write(log_);
  if (error) return close();
  if (keep_alive_ && !draining_) return read_header();
  linger();
}

// Closing at once would reset the connection while the client still sends, and it might then never
// see the answer; so what it sends is read and thrown away for a moment.
void Session::linger() {
  beast::error_code ignored;
  stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  stream_.expires_after(kLinger);
  discard();
}

void Session::discard() {
  stream_.async_read_some(asio::buffer(discarded_),
                          [self = shared_from_this()](beast::error_code error, std::size_t bytes) {
                            self->discarded_bytes_ += bytes;
                            if (error || self->discarded_bytes_ > kMaxDiscarded) {
                              return self->close();
                            }
                            self->discard();
                          });
}

void Session::close() {
  if (gone_) gone_->store(true);
  beast::error_code ignored;
  stream_.socket().close(ignored);
}

}  // namespace labelassemble::serve
