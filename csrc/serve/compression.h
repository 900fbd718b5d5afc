// Bodies compressed with gzip or deflate (zlib's format), as HTTP names them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory_budget.h"

namespace labelassemble::serve {

// Takes memory for what it makes. Throws HttpError: 415 for another encoding, 400 for damaged data,
// 413 for more than `limit` bytes, or than kMaxRatio times the body where that is beyond kAnyRatio;
// 413 or 503 where there is no memory.
std::vector<std::uint8_t> decompress(const std::vector<std::uint8_t>& body,
                                     const std::string& encoding, std::size_t limit,
                                     MemoryBudget::Charge& charge);
inline constexpr std::size_t kMaxRatio = 250;  // no image comes near it; zeros reach 1,030
inline constexpr std::size_t kAnyRatio = std::size_t{1} << 20;

// What to answer with: "gzip", "deflate", or "" when the client asks for neither.
std::string choose_encoding(const std::string& accept_encoding);
std::string compress(const std::string& body, const std::string& encoding);

}  // namespace labelassemble::serve
