#include "server.h"

#include <algorithm>
#include <utility>

#include "listener.h"

namespace labelassemble::serve {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr std::chrono::milliseconds kPause{20};
constexpr std::size_t kMostRefused = 64;  // connections beyond the limit that are told so

}  // namespace

Server::Server(asio::io_context& io, const SessionContext& context)
    : io_(io),
      context_(context),
      acceptor_(listen_on(io, context.options.host, context.options.port)),
      timer_(io) {
  accept();
}

std::string Server::url() const { return "http://" + address_of(acceptor_.local_endpoint()); }

std::vector<std::shared_ptr<Session>> Server::living() {
  std::vector<std::shared_ptr<Session>> living;
  for (const auto& one : sessions_) {
    if (auto session = one.lock()) living.push_back(std::move(session));
  }
  return living;
}

void Server::accept() {
  acceptor_.async_accept([this](boost::system::error_code error, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (error) {
      // Out of file descriptors, most likely: try again when some may be free.
      timer_.expires_after(kPause);
      timer_.async_wait([this](boost::system::error_code stopped) {
        if (!stopped && acceptor_.is_open()) accept();
      });
      return;
    }
    // At once: a weak pointer keeps the memory of its session, which is 18 KiB.
    std::erase_if(sessions_, [](const auto& one) { return one.expired(); });
    bool refuse = sessions_.size() >= context_.options.max_connections;
    if (refuse && close_oldest_idle()) refuse = false;
    if (sessions_.size() >= context_.options.max_connections + kMostRefused) {
      socket.close(error);  // even to say no takes a connection
      accept();
      return;
    }
    const auto session = std::make_shared<Session>(std::move(socket), context_, refuse);
    sessions_.push_back(session);
    session->start();
    accept();
  });
}

// Connections that are kept open for a later request must not keep out one that has a request.
bool Server::close_oldest_idle() {
  std::shared_ptr<Session> oldest;
  for (const auto& session : living()) {
    const auto since = session->idle_since();
    if (since && (!oldest || *since < *oldest->idle_since())) oldest = session;
  }
  if (!oldest) return false;
  oldest->close_idle();
  std::erase_if(sessions_, [&](const auto& one) { return one.lock() == oldest; });
  return true;
}

void Server::drain(std::function<void(std::size_t)> done) {
  boost::system::error_code ignored;
  timer_.cancel();
  acceptor_.close(ignored);
  for (const auto& session : living()) session->drain();
  wait_for_sessions(std::chrono::steady_clock::now() + context_.options.drain_timeout,
                    std::move(done));
}

void Server::wait_for_sessions(std::chrono::steady_clock::time_point until,
                               std::function<void(std::size_t)> done) {
  const auto left = living();
  if (left.empty()) return done(0);
  if (std::chrono::steady_clock::now() >= until) {
    for (const auto& session : left) session->abort();
    return done(left.size());
  }
  timer_.expires_after(kPause);
  timer_.async_wait([this, until, done = std::move(done)](boost::system::error_code) mutable {
    wait_for_sessions(until, std::move(done));
  });
}

}  // namespace labelassemble::serve
