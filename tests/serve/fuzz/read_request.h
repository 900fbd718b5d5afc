// What the rest of the server relies on, of a request that a parser has taken: aborts otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "memory_budget.h"
#include "model_config.h"
#include "pixels.h"
#include "protocol.h"

namespace labelassemble::serve {

inline void require(bool condition) {
  if (!condition) std::abort();
}

inline void read_request(const InferRequest& request, MemoryBudget::Charge& charge) {
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
  ModelConfig config = default_model_config("model");
  config.input.type = request.inputs[0].type;
  config.max_batch_size = 4;
  const PreparedImages images =
      read_images(config, NetworkInput{3, 8}, request, std::size_t{1} << 20, charge, [] {});
  require(images.count > 0 && images.count <= 4);
  require(images.values.size() == static_cast<std::size_t>(images.count) * 3 * 8 * 8);
  for (const float value : images.values) require(value >= 0.0F && value <= 1.0F);
}

}  // namespace labelassemble::serve
