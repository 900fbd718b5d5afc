// What comes over a connection of HTTP, in two pieces: the first byte says where it is cut. The
// session of the server reads it, and each request that it takes must be the one that RFC 9112
// reads there, told by a reader of its own.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http_message.h"
#include "rfc9112.h"
#include "service.h"
#include "session.h"

namespace labelassemble::serve {
namespace {

constexpr std::size_t kMaxBody = 4096;

std::vector<fuzz::Request>& taken() {
  static std::vector<fuzz::Request> requests;
  return requests;
}

void require(bool condition) {
  if (!condition) std::abort();
}

// One server for all inputs: its metrics may be made once.
struct Server {
  Options options = [] {
    Options chosen;
    chosen.max_body = kMaxBody;
    chosen.max_header = 2048;
    chosen.access_log = "none";
    return chosen;
  }();
  Metrics metrics;
  MemoryBudget memory{std::size_t{1} << 16};
  AccessLog log{options.access_log, metrics.lost_access_lines()};
  boost::asio::io_context io{1};
  // No engine is there: this program's Service::handle asks none.
  alignas(Engine) std::byte no_engine[sizeof(Engine)] = {};
  Service service{options, *reinterpret_cast<Engine*>(no_engine), metrics, memory};
};

Server& server() {
  static Server server;
  return server;
}

void send_all(int descriptor, std::string_view data) {
  require(::send(descriptor, data.data(), data.size(), MSG_NOSIGNAL) ==
              static_cast<ssize_t>(data.size()) ||
          errno == EPIPE);
}

std::string received(int descriptor) {
  std::string all;
  char part[4096];
  for (ssize_t got = 0; (got = ::recv(descriptor, part, sizeof part, MSG_DONTWAIT)) > 0;) {
    all.append(part, static_cast<std::size_t>(got));
  }
  return all;
}

// Every answer is whole and has a status of HTTP; interim ones have no body.
void check_answers(std::string_view answers, std::size_t requests) {
  std::size_t count = 0;
  while (!answers.empty()) {
    require(answers.starts_with("HTTP/1.1 ") || answers.starts_with("HTTP/1.0 "));
    const std::size_t end = answers.find("\r\n\r\n");
    require(end != std::string_view::npos);
    const std::string head(answers.substr(0, end + 2));
    answers.remove_prefix(end + 4);
    const std::string status = head.substr(9, 3);
    require(status >= "100" && status <= "599");
    if (status == "100") continue;
    ++count;
    const std::size_t length = head.find("\r\nContent-Length: ");
    require(length != std::string::npos);
    const std::size_t size = std::stoul(head.substr(length + 18));
    const bool head_only =
        status == "200" && count <= taken().size() && taken()[count - 1].method == "HEAD";
    if (head_only) continue;
    // A refused HEAD has no body either, and nothing comes after it.
    const bool refused = count == requests + 1 && answers.empty();
    require(refused || size <= answers.size());
    if (!refused) answers.remove_prefix(size);
  }
  require(count >= requests);  // and one more, where one is refused
  require(count <= requests + 1);
}

}  // namespace

void Service::handle(HttpRequest request, Reply reply) {
  require(request.charge.bytes() >= request.body.size());
  require(request.body.size() <= kMaxBody);
  taken().push_back(
      {request.method, request.target, std::string(request.body.begin(), request.body.end())});
  HttpResponse response;
  response.body = "{}";
  reply(std::move(response));
}

HttpResponse error_response(int status, const std::string& message, int) {
  require(status >= 400 && status <= 599);
  require(message.find('\n') == std::string::npos);
  HttpResponse response;
  response.status = status;
  response.body = message;
  return response;
}

}  // namespace labelassemble::serve

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace labelassemble::serve;
  namespace asio = boost::asio;
  if (size < 2 || size > 16384) return 0;
  Server& here = server();
  taken().clear();
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const std::size_t cut = std::min<std::size_t>(text.size(), std::size_t{data[0]} * 4);

  int ends[2];
  require(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  asio::ip::tcp::socket socket(here.io);
  socket.assign(asio::ip::tcp::v4(), ends[0]);
  {
    const auto session = std::make_shared<Session>(
        std::move(socket),
        SessionContext{here.options, here.service, here.metrics, here.memory, here.log}, false);
    session->start();
  }
  here.io.restart();
  send_all(ends[1], text.substr(0, cut));
  here.io.poll();
  send_all(ends[1], text.substr(cut));
  here.io.poll();
  ::shutdown(ends[1], SHUT_WR);
  here.io.run();  // until the session has gone
  const std::string answers = received(ends[1]);
  ::close(ends[1]);

  require(here.memory.used() == 0);
  check_answers(answers, taken().size());
  const std::vector<fuzz::Request> expected = fuzz::read_requests(text);
  require(taken().size() <= expected.size());
  for (std::size_t i = 0; i < taken().size(); ++i) {
    require(taken()[i].method == expected[i].method);
    require(taken()[i].body == expected[i].body);
    require(taken()[i].target == fuzz::path_of(expected[i].target));
  }
  return 0;
}
