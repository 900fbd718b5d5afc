// A loaded model of either kind, behind Classifier.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "labelassemble/classifier.h"

namespace labelassemble {

// The layout of the description that this library reads; labelassemble/export/metadata.py writes
// it.
inline constexpr std::int64_t kFormat = 1;

// Every method may be called from several threads at once. They throw c10::Error or another
// std::exception for what goes wrong inside the model.
class Model {
 public:
  virtual ~Model() = default;

  const Description& description() const { return description_; }

  // Images [B, 1 or 3, H, W] on the model's device -> [B, channels, size, size]; those of several
  // calls may be concatenated for classify.
  virtual at::Tensor prepare(const at::Tensor& images) const = 0;

  // Prepared images -> probabilities float32 [B, C].
  virtual at::Tensor classify(const at::Tensor& prepared) const = 0;

  // The same for some classes, all of which the model has, in their order: [B, classes.size()].
  virtual at::Tensor classify(const at::Tensor& prepared,
                              const std::vector<std::string>& classes) const;

 protected:
  Description description_;
};

// Both throw Error with the path for what is no model.
std::unique_ptr<Model> load_torchscript(const std::filesystem::path& path, at::Device device);
std::unique_ptr<Model> load_package(const std::filesystem::path& path, at::Device device);

// Whether a file is an AOTInductor package (.pt2) and not TorchScript. Throws Error where it is
// neither, or where this processor lacks what its environment asks for.
bool is_package(const std::filesystem::path& path);

// "cpu", "cuda" or "cuda:N"; throws Error for any other, and for one that is not here.
at::Device parse_device(const std::string& device);

// "[2, 3]".
std::string shape(at::IntArrayRef sizes);

// Throws Error where a description does not hold together.
void check_description(const Description& description, const std::filesystem::path& path);

// Throws Error for another format than kFormat.
void check_format(std::int64_t format, const std::filesystem::path& path);

// The attribute or entry that marks a network which answers the voxels of volumes.
inline constexpr const char* kVolumes = "labelassemble_volumes";

[[noreturn]] void throw_answers_voxels(const std::filesystem::path& path);

[[noreturn]] void throw_not_exported(const std::filesystem::path& path);

// Column of a class; throws Error for one that the model does not have.
std::int64_t column_of(const Description& description, const std::string& name);

std::string first_line(std::string_view text);

// TorchScript's messages are tracebacks: the last line says what happened.
std::string last_line(std::string_view text);

}  // namespace labelassemble
