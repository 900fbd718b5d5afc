// What a client, or a model repository, hands to the parsers. The first byte says which of them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "compression.h"
#include "error.h"
#include "memory_budget.h"
#include "model_config.h"
#include "pixels.h"
#include "protocol.h"
#include "route.h"
#include "text_format.h"

namespace {

using namespace labelassemble::serve;

// What the rest of the server relies on.
void require(bool condition) {
  if (!condition) std::abort();
}

ModelConfig config_of(DataType type) {
  ModelConfig config = default_model_config("model");
  config.input.type = type;
  config.max_batch_size = 4;
  return config;
}

void parse_and_read(Bytes body, std::optional<std::size_t> header_length) {
  const InferRequest request = parse_infer_request(body, header_length);
  require(!request.inputs.empty());
  for (const InputTensor& tensor : request.inputs) {
    std::uint64_t count = 1;
    for (const std::int64_t size : tensor.shape) {
      require(size > 0);
      count *= static_cast<std::uint64_t>(size);
    }
    if (tensor.type == DataType::kBytes) {
      require(tensor.elements.size() == count);
    } else {
      require(tensor.data.size() == count * element_size(tensor.type));
    }
  }
  MemoryBudget budget(std::size_t{1} << 20);
  const RequestImages images = read_images(config_of(request.inputs[0].type), request, budget);
  require(images.count > 0 && images.count <= 4);
  for (const Pixels& pixels : images.pixels) {
    require(pixels.data.size() == static_cast<std::size_t>(pixels.count * pixels.channels *
                                                           pixels.height * pixels.width) *
                                      element_size(pixels.type));
  }
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
      static_cast<void>(decompress({rest.begin(), rest.end()}, "gzip", 65536));
      return;
    case 5: {
      const std::string encoding = choose_encoding(std::string(text));
      if (!encoding.empty()) {
        const std::string packed = compress(std::string(text), encoding);
        const auto back = decompress({packed.begin(), packed.end()}, encoding, text.size());
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
