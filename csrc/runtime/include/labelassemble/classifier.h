// An exported model, ready to answer: the C++ side of labelassemble.export. Needs libtorch, not
// Python.
//
//   labelassemble::Classifier classifier("model.pt");
//   std::vector<labelassemble::Image> images{labelassemble::read_image("chest.png")};
//   labelassemble::Probabilities answer = classifier.predict(images);
//   for (std::size_t c = 0; c < classifier.describe().classes.size(); ++c)
//     std::cout << classifier.describe().classes[c] << " " << answer.row(0)[c] << "\n";
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "labelassemble/error.h"
#include "labelassemble/image.h"

namespace at {
class Tensor;  // include <ATen/ATen.h> to pass tensors; the rest of this header does without
}

namespace labelassemble {

// What a model says of itself. It converts images of any size, of 1 or 3 channels, on its own.
struct Description {
  std::vector<std::string> classes;   // in the order of the columns of every answer
  std::vector<std::string> interest;  // the classes that the model was chosen by; may be empty
  // One a class, positive from it on; infinity: never; NaN: none could be chosen for that class,
  // and its probability is no decision. Empty: none chosen at all.
  std::vector<double> thresholds;
  std::int64_t channels = 0;  // what the network itself takes, after conversion
  std::int64_t size = 0;      // height and width, in pixels
  std::vector<double> mean;   // of values in 0..1, one a channel
  std::vector<double> std;
  std::string library;  // the version of labelassemble that exported it
};

// Probabilities [images, classes], row by row.
struct Probabilities {
  std::int64_t images = 0;
  std::int64_t classes = 0;
  std::vector<float> values;

  std::span<const float> row(std::int64_t image) const {
    return std::span<const float>(values).subspan(image * classes, classes);
  }
};

// A model for Segmenter that was given to Classifier.
class AnswersVoxels : public Error {
 public:
  using Error::Error;
};

class Classifier {
 public:
  // Loads what labelassemble.export wrote: TorchScript, or an AOTInductor package where the name
  // ends in .pt2 (which runs one prediction at a time). `device` is "cpu", "cuda" or "cuda:N".
  // Throws Error: no such file, another kind of file, no model of labelassemble, no such device.
  explicit Classifier(const std::filesystem::path& model, const std::string& device = "cpu");
  ~Classifier();
  Classifier(Classifier&&) noexcept;
  Classifier& operator=(Classifier&&) noexcept;

  const Description& describe() const noexcept;

  // Probabilities of images, whose sizes and channels may differ; no image gives no row.
  // Safe to call from several threads at once. Throws Error for an image whose pixels do not fit
  // its size, and NotFinite, here and below, for an answer that is not finite.
  Probabilities predict(std::span<const Image> images) const;

  // The same for a tensor [B, 1 or 3, H, W], uint8 (0..255) or floating (0..1), on any device:
  // float32 [B, C] on the model's device.
  at::Tensor predict(const at::Tensor& images) const;

  // Both for some classes only, in the order given: [images, classes.size()]. A model exported with
  // its queries then uses those queries alone. Throws Error for a class that the model lacks.
  Probabilities predict(std::span<const Image> images,
                        const std::vector<std::string>& classes) const;
  at::Tensor predict(const at::Tensor& images, const std::vector<std::string>& classes) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace labelassemble
