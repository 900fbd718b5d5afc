// Bodies compressed with gzip or deflate (zlib's format), as HTTP names them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace labelassemble::serve {

// Throws HttpError: 415 for another encoding, 400 for damaged data, 413 for more than `limit`
// bytes.
std::vector<std::uint8_t> decompress(const std::vector<std::uint8_t>& body,
                                     const std::string& encoding, std::size_t limit);

// What to answer with: "gzip", "deflate", or "" when the client asks for neither.
std::string choose_encoding(const std::string& accept_encoding);
std::string compress(const std::string& body, const std::string& encoding);

}  // namespace labelassemble::serve
