// What RFC 9112 demands of a request's header beyond what Beast's parser refuses: whatever could be
// read in two ways, by a proxy before this server and by this server, is refused.
#pragma once

#include <boost/beast/http/fields.hpp>
#include <boost/beast/http/message.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "error.h"

namespace labelassemble::serve {

// Of the header as it came, with the empty line at its end: lines that end in a bare LF, bare CR,
// NUL, folded lines.
std::optional<HttpError> check_header_text(std::string_view text);

// Of the fields: exactly one Host (RFC 9112, 3.2), one length or chunked and nothing else
// (6.1, 6.3).
std::optional<HttpError> check_header(
    const boost::beast::http::header<true, boost::beast::http::fields>& header);

// The field traceparent where it is well-formed (www.w3.org/TR/trace-context, 3.2); else empty.
std::string traceparent_of(
    const boost::beast::http::header<true, boost::beast::http::fields>& header);

// The path of a target in origin or absolute form (3.2.1, 3.2.2); nothing for another form.
std::optional<std::string> path_of(std::string_view target);

}  // namespace labelassemble::serve
