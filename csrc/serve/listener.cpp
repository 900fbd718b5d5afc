#include "listener.h"

#include "labelassemble/error.h"

namespace labelassemble::serve {

using boost::asio::ip::tcp;

tcp::acceptor listen_on(boost::asio::io_context& io, const std::string& host, std::uint16_t port) {
  boost::system::error_code error;
  const auto address =
      boost::asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
  if (error) throw Error("--host must be an IP address such as 127.0.0.1, got '" + host + "'");
  tcp::acceptor acceptor(io);
  try {
    const tcp::endpoint endpoint(address, port);
    acceptor.open(endpoint.protocol());
    acceptor.set_option(boost::asio::socket_base::reuse_address(true));
    acceptor.bind(endpoint);
    acceptor.listen(boost::asio::socket_base::max_listen_connections);
  } catch (const boost::system::system_error& failure) {
    throw Error("cannot listen on " + host + " port " + std::to_string(port) + ": " +
                failure.code().message());
  }
  return acceptor;
}

std::string address_of(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + address + "]" : address) + ":" +
         std::to_string(endpoint.port());
}

}  // namespace labelassemble::serve
