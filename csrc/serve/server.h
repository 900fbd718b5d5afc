// Listens, and keeps the sessions.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "session.h"

namespace labelassemble::serve {

class Server {
 public:
  // Listens at once; connections are accepted when the io_context runs. Throws Error for an address
  // that is none, or is taken.
  Server(boost::asio::io_context& io, const SessionContext& context);

  std::string url() const;

  // Accepts no more, and lets every session finish its request; `done` is called when all have, or
  // when the drain timeout has passed, with the number of those that were cut off.
  void drain(std::function<void(std::size_t)> done);

 private:
  void accept();
  bool close_oldest_idle();
  std::vector<std::shared_ptr<Session>> living();
  void wait_for_sessions(std::chrono::steady_clock::time_point until,
                         std::function<void(std::size_t)> done);

  boost::asio::io_context& io_;
  const SessionContext context_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer timer_;
  std::vector<std::weak_ptr<Session>> sessions_;
};

}  // namespace labelassemble::serve
