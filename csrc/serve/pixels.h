// The images of a request, checked against the model's configuration, decoded and made the
// network's input.
#pragma once

#include <cstdint>
#include <vector>

#include "error.h"
#include "memory_budget.h"
#include "model_config.h"
#include "protocol.h"
#include "resize.h"

namespace labelassemble::serve {

// What a network takes.
struct NetworkInput {
  std::int64_t channels = 1;
  std::int64_t size = 0;  // height and width
};

// An image that no decoder can read: 400.
class UnreadableImage : public HttpError {
 public:
  explicit UnreadableImage(const std::string& message) : HttpError(400, message) {}
};

struct PreparedImages {
  std::vector<float> values;  // [count, channels, size, size], 0..1
  std::int64_t count = 0;
};

// Takes memory for the images, for the answer and for its place in a batch before it allocates;
// what it needed for a while is given back. Encoded images (BYTES) are taken by every model, in the
// place of a tensor; one after another is decoded and resized, so that one is held at a time.
//
// Throws HttpError 400: another input than the model's, another type or shape, a value that is not
// finite or not from 0 to 1, an image that cannot be decoded, more images than a batch holds;
// 413: more than `max_image` bytes of pixels as an image's format stores them, without compression;
// 413 or 503: no memory; and what `interrupt` throws.
PreparedImages read_images(const ModelConfig& config, const NetworkInput& network,
                           const InferRequest& request, std::size_t max_image,
                           MemoryBudget::Charge& charge, const Interrupt& interrupt);

}  // namespace labelassemble::serve
