// The socket that a server listens on.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <string>

namespace labelassemble::serve {

// Throws Error for a host that is no IP address, or an address that is taken.
boost::asio::ip::tcp::acceptor listen_on(boost::asio::io_context& io, const std::string& host,
                                         std::uint16_t port);

// "127.0.0.1:8000", or "[::1]:8000".
std::string address_of(const boost::asio::ip::tcp::endpoint& endpoint);

}  // namespace labelassemble::serve
