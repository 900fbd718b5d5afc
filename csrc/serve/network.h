// A classifier that runs on batches of prepared images: the one place of the server that knows
// libtorch.
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

  NetworkInput input() const { return {describe().channels, describe().size}; }

  // Probabilities, row by row: an image a row, a class a column. `images` holds the values of
  // `count` images as `prepare` makes them. Throws Error.
  std::vector<float> predict(std::span<const float> images, std::int64_t count) const;

  // Runs a batch of black images, so that the first request is no slower.
  void warm_up(std::int64_t batch) const;

 private:
  Classifier classifier_;
};

// Threads within an operation, for every thread that computes; 0: one a core.
void set_threads(int threads);

}  // namespace labelassemble::serve
