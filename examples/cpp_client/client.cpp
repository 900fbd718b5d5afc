// A C++ client of labelassemble-serve: sends an image as it is, prints the probability of each
// class. Needs Boost and nlohmann-json, and nothing of labelassemble.
//
//   cmake -S examples/cpp_client -B build/client && cmake --build build/client
//   build/client/client 127.0.0.1 8000 MODEL image.png
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace asio = boost::asio;
namespace http = boost::beast::http;

// Sends one request over an open connection and returns the answer's JSON.
nlohmann::json ask(asio::ip::tcp::socket& socket, http::request<http::string_body> request) {
  request.set(http::field::host, "labelassemble");
  request.prepare_payload();
  http::write(socket, request);
  boost::beast::flat_buffer buffer;
  http::response<http::string_body> response;
  http::read(socket, buffer, response);
  const auto answer = nlohmann::json::parse(response.body());
  if (response.result() != http::status::ok) throw std::runtime_error(answer.at("error"));
  return answer;
}

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: client HOST PORT MODEL IMAGE\n";
    return 2;
  }
  try {
    std::ifstream file(argv[4], std::ios::binary);
    if (!file) throw std::runtime_error(std::string(argv[4]) + " cannot be read");
    const std::string image((std::istreambuf_iterator<char>(file)), {});

    asio::io_context context;
    asio::ip::tcp::socket socket(context);
    asio::connect(socket, asio::ip::tcp::resolver(context).resolve(argv[1], argv[2]));

    const std::string model = std::string("/v2/models/") + argv[3];
    const auto metadata = ask(socket, {http::verb::get, model, 11});
    http::request<http::string_body> request{http::verb::post, model + "/infer", 11};
    request.set("Inference-Header-Content-Length", "0");  // the body is the image alone
    request.body() = image;
    const auto answer = ask(socket, request);

    const auto& probabilities = answer.at("outputs").at(0).at("data");
    const auto& classes = metadata.at("parameters").at("classes");
    for (std::size_t c = 0; c < classes.size(); ++c) {
      std::cout << classes[c].get<std::string>() << " " << probabilities[c] << "\n";
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
