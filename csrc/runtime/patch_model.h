// A loaded patch network of either kind, behind Segmenter.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>

#include "labelassemble/segmenter.h"

namespace labelassemble {

// The layout of the description that this library reads; labelassemble/export/volumes.py writes it.
inline constexpr std::int64_t kVolumesFormat = 1;

class PatchModel {
 public:
  virtual ~PatchModel() = default;

  const SegmenterDescription& description() const { return description_; }

  // Windows float32 [B, 1, *patch] on the model's device -> logits [B, C, *patch].
  virtual at::Tensor logits(const at::Tensor& windows) const = 0;

 protected:
  SegmenterDescription description_;
};

// Throws Error with the path for what is no such model.
std::unique_ptr<PatchModel> load_patch_model(const std::filesystem::path& path, at::Device device);

}  // namespace labelassemble
