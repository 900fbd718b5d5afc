// The images of a request, checked against the model's configuration and decoded.
#pragma once

#include <cstdint>
#include <vector>

#include "labelassemble/image.h"
#include "memory_budget.h"
#include "model_config.h"
#include "protocol.h"

namespace labelassemble::serve {

// Images of one size and type, [count, channels, height, width].
struct Pixels {
  DataType type = DataType::kUint8;  // or FP16, FP32, FP64
  std::int64_t count = 1;
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  Bytes data;  // not aligned
};

struct RequestImages {
  std::vector<Pixels> pixels;  // into the request, or into `decoded`
  std::vector<Image> decoded;
  MemoryBudget::Charge charge;  // for `decoded`
  std::int64_t count = 0;       // images, all together
};

// Throws HttpError 400: another input than the model's, another type or shape, a value that is not
// finite, an image that cannot be decoded, more images than a batch holds; 503: no memory for them.
// Encoded images (BYTES) are taken by every model, in the place of a tensor.
RequestImages read_images(const ModelConfig& config, const InferRequest& request,
                          MemoryBudget& budget);

}  // namespace labelassemble::serve
