// A classifier that runs on batches of pixels: the one place of the server that knows libtorch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "labelassemble/classifier.h"
#include "pixels.h"

namespace labelassemble::serve {

class Network {
 public:
  // Throws Error for a file that is no model of labelassemble.
  Network(const std::filesystem::path& path, const std::string& device)
      : classifier_(path, device) {}

  const Description& describe() const noexcept { return classifier_.describe(); }

  // Probabilities, row by row: an image a row, a class a column. Images of any sizes and types run
  // as one batch where they can: those of one size and type, and bytes of any sizes. Throws Error.
  std::vector<float> predict(std::span<const Pixels> images) const;

  // Runs a batch of black images of the network's own size, so that the first request is no slower.
  void warm_up(std::int64_t batch, DataType type) const;

 private:
  void predict_alike(std::span<const Pixels> images, std::vector<float>& rows) const;
  void predict_bytes(std::span<const Pixels> images, std::vector<float>& rows) const;

  Classifier classifier_;
};

// Threads within an operation, for every thread that computes; 0: one a core.
void set_threads(int threads);

}  // namespace labelassemble::serve
