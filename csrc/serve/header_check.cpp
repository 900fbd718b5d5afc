#include "header_check.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>

#include "access_log.h"

namespace labelassemble::serve {
namespace {

namespace http = boost::beast::http;

std::optional<HttpError> refused(const std::string& why) {
  return HttpError(400, "the request is not valid HTTP: " + why);
}

// RFC 3986, 3.2.2, and the colon before a port.
bool is_host_character(char c) {
  constexpr std::string_view kMarks = "-._~%!$&'()*+;=[]:";
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         kMarks.find(c) != std::string_view::npos;
}

}  // namespace

std::optional<HttpError> check_header_text(std::string_view text) {
  bool line_begins = false;  // the request line may not be folded either, but has no line before it
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\0') return refused("its header holds a NUL byte");
    if (line_begins && (c == ' ' || c == '\t')) return refused("a line of its header is folded");
    if (c == '\r' && (i + 1 == text.size() || text[i + 1] != '\n')) {
      return refused("a carriage return stands alone in its header");
    }
    if (c == '\n' && (i == 0 || text[i - 1] != '\r')) {
      return refused("a line of its header ends without a carriage return");
    }
    line_begins = c == '\n';
  }
  return std::nullopt;
}

std::optional<HttpError> check_header(const http::header<true, http::fields>& header) {
  const auto hosts = header.count(http::field::host);
  if (hosts > 1 || (hosts == 0 && header.version() >= 11)) {
    return refused("it must name one Host, and names " + std::to_string(hosts));
  }
  const auto host = header[http::field::host];
  if (!std::all_of(host.begin(), host.end(), is_host_character)) {
    return refused("Host must be a name or an address");
  }
  const auto codings = header.count(http::field::transfer_encoding);
  const auto lengths = header.count(http::field::content_length);
  if (codings > 0) {
    if (header.version() < 11) return refused("HTTP/1.0 has no Transfer-Encoding");
    if (lengths > 0) return refused("it has both Content-Length and Transfer-Encoding");
    const auto coding = header[http::field::transfer_encoding];
    if (codings > 1 || !boost::beast::iequals(coding, "chunked")) {
      return HttpError(501, "Transfer-Encoding must be chunked, got '" +
                                std::string(coding.substr(0, 100)) + "'");
    }
  }
  if (lengths > 1) return refused("it has more than one Content-Length");
  if (lengths == 1) {
    const auto length = header[http::field::content_length];
    const bool digits = !length.empty() && std::all_of(length.begin(), length.end(),
                                                       [](char c) { return c >= '0' && c <= '9'; });
    if (!digits) return refused("Content-Length must be a whole number");
  }
  if (header.count(http::field::content_encoding) > 1 ||
      header.count("Inference-Header-Content-Length") > 1) {
    return refused("Content-Encoding and Inference-Header-Content-Length may stand once");
  }
  const auto expected = header[http::field::expect];
  if (!expected.empty() && !boost::beast::iequals(expected, "100-continue")) {
    return HttpError(417, "Expect must be 100-continue");
  }
  return std::nullopt;
}

std::string traceparent_of(const http::header<true, http::fields>& header) {
  const auto field = header["traceparent"];
  return checked_traceparent({field.data(), field.size()});
}

std::optional<std::string> path_of(std::string_view target) {
  if (target.starts_with('/')) return std::string(target);
  const std::size_t scheme = target.find("://");
  if (scheme == std::string_view::npos) return std::nullopt;
  const std::string_view name = target.substr(0, scheme);
  if (!boost::beast::iequals({name.data(), name.size()}, "http") &&
      !boost::beast::iequals({name.data(), name.size()}, "https")) {
    return std::nullopt;
  }
  const std::size_t authority = scheme + 3;
  const std::size_t end = std::min(target.find_first_of("/?", authority), target.size());
  if (end == authority) return std::nullopt;
  std::string path(target.substr(end));
  if (!path.starts_with('/')) path.insert(path.begin(), '/');
  return path;
}

}  // namespace labelassemble::serve
