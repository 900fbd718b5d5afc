// RFC 9112 read strictly and simply, for the fuzzer of HTTP: what is not plainly right ends the
// connection.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fuzz {

struct Request {
  std::string method;
  std::string target;
  std::string body;
};

inline bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

inline std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

inline std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  const std::size_t start = text.find_first_not_of(kBlanks);
  if (start == std::string_view::npos) return {};
  return text.substr(start, text.find_last_not_of(kBlanks) - start + 1);
}

// A line without its CRLF; nothing where there is none, or where CR or LF stand alone in it.
inline std::optional<std::string_view> take_line(std::string_view& text) {
  const std::size_t end = text.find("\r\n");
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = text.substr(0, end);
  if (line.find_first_of("\r\n") != std::string_view::npos) return std::nullopt;
  text.remove_prefix(end + 2);
  return line;
}

inline std::optional<std::uint64_t> number(std::string_view text, std::uint64_t base) {
  if (text.empty() || text.size() > 15) return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : lower(text)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
    if (static_cast<std::uint64_t>(digit) >= base) return std::nullopt;
    value = value * base + static_cast<std::uint64_t>(digit);
  }
  return value;
}

// Fields up to the empty line; false where one is malformed. `folded`: a field may go on in the
// next line, which RFC 9112, 5.2, lets a server take for a blank, and which says nothing of what a
// request is where trailers have it.
inline bool take_fields(std::string_view& text,
                        std::vector<std::pair<std::string, std::string>>& fields, bool folded) {
  for (;;) {
    const auto line = take_line(text);
    if (!line) return false;
    if (line->empty()) return true;
    if (folded && !fields.empty() && (line->front() == ' ' || line->front() == '\t')) continue;
    const std::size_t colon = line->find(':');
    if (colon == std::string_view::npos || !is_token(line->substr(0, colon))) return false;
    fields.emplace_back(lower(line->substr(0, colon)), trimmed(line->substr(colon + 1)));
  }
}

// What a target asks for: of the absolute form what follows the authority.
inline std::string path_of(const std::string& target) {
  if (target.starts_with("/")) return target;
  const std::size_t scheme = target.find("://");
  if (scheme == std::string::npos) return target;
  const std::size_t path = target.find_first_of("/?", scheme + 3);
  if (path == std::string::npos) return "/";
  return (target[path] == '?' ? "/" : "") + target.substr(path);
}

inline std::optional<std::string> take_chunks(std::string_view& text) {
  std::string body;
  for (;;) {
    const auto line = take_line(text);
    if (!line) return std::nullopt;
    // Blanks may stand before an extension, as RFC 9112, 7.1.1 has it, and nowhere else.
    const std::size_t extension = line->find(';');
    std::string_view digits = line->substr(0, extension);
    while (extension != std::string_view::npos && (digits.ends_with(' ') || digits.ends_with('\t')))
      digits.remove_suffix(1);
    const auto size = number(digits, 16);
    if (!size) return std::nullopt;
    if (*size == 0) break;
    if (*size > text.size()) return std::nullopt;
    body += text.substr(0, *size);
    text.remove_prefix(*size);
    if (!text.starts_with("\r\n")) return std::nullopt;
    text.remove_prefix(2);
  }
  std::vector<std::pair<std::string, std::string>> trailers;
  if (!take_fields(text, trailers, true)) return std::nullopt;
  return body;
}

// Every request of a connection, up to the first that is not plainly right.
inline std::vector<Request> read_requests(std::string_view text) {
  std::vector<Request> requests;
  for (;;) {
    while (text.starts_with("\r\n")) text.remove_prefix(2);
    const auto first = take_line(text);
    if (!first) return requests;
    const std::size_t one = first->find(' ');
    const std::size_t two = first->rfind(' ');
    if (one == std::string_view::npos || one == two) return requests;
    Request request;
    request.method = first->substr(0, one);
    request.target = first->substr(one + 1, two - one - 1);
    const std::string_view version = first->substr(two + 1);
    if (!is_token(request.method) || request.target.find_first_of(" \t") != std::string::npos ||
        request.target.empty() || (version != "HTTP/1.1" && version != "HTTP/1.0")) {
      return requests;
    }
    std::vector<std::pair<std::string, std::string>> fields;
    if (!take_fields(text, fields, false)) return requests;
    std::vector<std::string> lengths;
    std::vector<std::string> codings;
    for (const auto& [name, value] : fields) {
      if (name == "content-length") lengths.push_back(value);
      if (name == "transfer-encoding") codings.push_back(value);
    }
    if (!codings.empty()) {
      if (codings.size() > 1 || lower(codings[0]) != "chunked" || !lengths.empty()) return requests;
      auto body = take_chunks(text);
      if (!body) return requests;
      request.body = *body;
    } else if (!lengths.empty()) {
      if (lengths.size() > 1) return requests;
      const auto length = number(lengths[0], 10);
      if (!length || *length > text.size()) return requests;
      request.body = text.substr(0, *length);
      text.remove_prefix(*length);
    }
    requests.push_back(std::move(request));
  }
}

}  // namespace fuzz
