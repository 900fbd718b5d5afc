// A network that answers the voxels of volumes: a request brings one NIfTI file, which is answered
// window by window.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "labelassemble/classifier.h"
#include "labelassemble/segmenter.h"
#include "memory_budget.h"
#include "model_config.h"
#include "protocol.h"
#include "resize.h"

namespace labelassemble::serve {

// A volume as the network sees it, and the one of the file without its values.
struct PreparedVolume {
  Volume stored;
  Volume seen;
  std::size_t bytes = 0;  // what it takes until its answer is there
};

class VolumeNetwork {
 public:
  static constexpr const char* kInput = "VOLUME";
  static constexpr const char* kScores = "SCORES";
  static constexpr const char* kMask = "MASK";
  static constexpr const char* kProbabilities = "PROBABILITIES";

  // Throws Error for a file that is no such model.
  VolumeNetwork(const std::filesystem::path& path, const std::string& device);

  // What it shares with a classifier; `channels` and `size` are 0.
  const Description& describe() const noexcept { return description_; }
  const SegmenterDescription& segmenter() const noexcept { return segmenter_.describe(); }

  // Its tensors, in the place of those of config.pbtxt, which are the patches' for Triton.
  TensorConfig input() const;
  std::vector<TensorConfig> outputs() const;

  // The volume of a request for `columns` classes. At its end `charge` holds what the request takes
  // until it is answered, and its body. Throws HttpError 400: another input, or a file that is no
  // volume for this network; 413: more than `max_image` bytes of values; 413 or 503: no memory; and
  // what `interrupt` throws, here and below.
  PreparedVolume read(const InferRequest& request, std::size_t columns, std::size_t max_image,
                      MemoryBudget::Charge& charge, const Interrupt& interrupt) const;

  // Probabilities and scores. Throws Error where the network fails.
  Segmentation answer(const PreparedVolume& volume, const Interrupt& interrupt) const;

  // The outputs that are files (.nii.gz), on the voxels of the file: the class of each, k for the
  // k-th of the model; and their probabilities, an asked-for class along the last axis. Throw
  // HttpError 413 for a file of 4 GiB or more, which has no length in a tensor.
  std::string mask(const PreparedVolume& volume, const Segmentation& answer,
                   const Interrupt& interrupt) const;
  std::string probabilities(const PreparedVolume& volume, const Segmentation& answer,
                            std::span<const std::size_t> columns, const Interrupt& interrupt) const;

  // Answers a patch of zeros, so that the first request is no slower.
  void warm_up() const;

 private:
  Segmenter segmenter_;
  Description description_;
};

}  // namespace labelassemble::serve
