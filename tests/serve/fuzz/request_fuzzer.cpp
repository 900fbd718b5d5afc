// What a client, or a model repository, hands to the parsers. The first byte says which of them.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compression.h"
#include "error.h"
#include "memory_budget.h"
#include "model_config.h"
#include "protocol.h"
#include "read_request.h"
#include "route.h"
#include "text_format.h"

namespace {

using namespace labelassemble::serve;

void parse_and_read(Bytes body, std::optional<std::size_t> header_length) {
  MemoryBudget budget(std::size_t{1} << 20);
  MemoryBudget::Charge charge(budget);
  const InferRequest request = parse_infer_request(body, header_length, charge);
  read_request(request, charge);
}

std::vector<std::uint8_t> unpack(Bytes packed, const std::string& encoding, std::size_t limit) {
  MemoryBudget budget(std::size_t{1} << 24);
  MemoryBudget::Charge charge(budget);
  return decompress({packed.begin(), packed.end()}, encoding, limit, charge);
}

void run(std::uint8_t which, Bytes rest) {
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), rest.size());
  switch (which % 6) {
    case 0:
      return parse_and_read(rest, std::nullopt);
    case 1: {
      if (rest.size() < 2) return;
      const std::size_t length = rest[0] | std::size_t{rest[1]} << 8;
      return parse_and_read(rest.subspan(2), length);
    }
    case 2:
      static_cast<void>(parse_model_config(text, "model"));
      return;
    case 3:
      if (const auto parts = split_path(text)) static_cast<void>(model_path(*parts));
      return;
    case 4:
      static_cast<void>(unpack(rest, "gzip", 65536));
      return;
    case 5: {
      const std::string encoding = choose_encoding(std::string(text));
      if (!encoding.empty()) {
        const std::string packed = compress(std::string(text), encoding);
        const auto back =
            unpack({reinterpret_cast<const std::uint8_t*>(packed.data()), packed.size()}, encoding,
                   text.size());
        require(std::string_view(reinterpret_cast<const char*>(back.data()), back.size()) == text);
      }
      return;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  try {
    // A copy on the heap, so that a read beyond it is seen.
    const std::vector<std::uint8_t> rest(data + 1, data + size);
    run(data[0], rest);
  } catch (const labelassemble::Error&) {
    // Refused with a sentence, as it should be.
  }
  return 0;
}
