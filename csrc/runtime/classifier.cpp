#include "labelassemble/classifier.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "labelassemble/not_finite.h"
#include "model.h"

namespace labelassemble {
namespace {

std::unique_ptr<Model> load_model(const std::filesystem::path& path, at::Device device) {
  return is_package(path) ? load_package(path, device) : load_torchscript(path, device);
}

void check_tensor(const at::Tensor& images) {
  if (images.dim() != 4 || (images.size(1) != 1 && images.size(1) != 3)) {
    throw Error("images must have the shape [B, 1 or 3, H, W], got " + shape(images.sizes()));
  }
  if (images.size(2) < 1 || images.size(3) < 1) {
    throw Error("images must have at least one pixel, got " + shape(images.sizes()));
  }
  if (images.scalar_type() != at::kByte && !at::isFloatingType(images.scalar_type())) {
    throw Error(std::string("images must be uint8 (0..255) or floating (0..1), got ") +
                c10::toString(images.scalar_type()));
  }
}

void check_image(const Image& image, std::size_t index) {
  const auto values = static_cast<std::int64_t>(image.pixels.size());
  const bool fits = (image.channels == 1 || image.channels == 3) && image.height > 0 &&
                    image.width > 0 && values % image.channels == 0 &&
                    values / image.channels / image.height == image.width &&
                    values / image.channels % image.height == 0;
  if (!fits) {
    throw Error("images must hold channels (1 or 3) x height x width pixels, got " +
                std::to_string(values) + " for " + std::to_string(image.channels) + " x " +
                std::to_string(image.height) + " x " + std::to_string(image.width) + " in image " +
                std::to_string(index));
  }
}

}  // namespace

class Classifier::Impl {
 public:
  Impl(const std::filesystem::path& path, const std::string& device)
      : device_(parse_device(device)), model_(load_model(path, device_)) {}

  at::Device device() const { return device_; }
  const Description& description() const { return model_->description(); }

  at::Tensor prepare(const at::Tensor& images) const {
    return guarded([&] { return model_->prepare(images.to(device_)); });
  }

  // `classes` is null for all.
  at::Tensor classify(const at::Tensor& prepared, const std::vector<std::string>* classes) const {
    return guarded([&] {
      return classes == nullptr ? model_->classify(prepared) : model_->classify(prepared, *classes);
    });
  }

 private:
  template <typename Function>
  static at::Tensor guarded(Function function) {
    const c10::InferenceMode inference;
    try {
      return function();
    } catch (const Error&) {
      throw;
    } catch (const c10::Error& failure) {
      throw Error("the model failed: " + first_line(failure.what_without_backtrace()));
    } catch (const std::exception& failure) {
      throw Error("the model failed: " + last_line(failure.what()));
    }
  }

  at::Device device_;
  std::unique_ptr<Model> model_;
};

namespace {

// Throws NotFinite, so that no caller takes it for an answer.
void check_finite(const at::Tensor& probabilities, const std::vector<std::string>& names) {
  if (at::isfinite(probabilities).all().item<bool>()) return;
  const at::Tensor rows = probabilities.to(at::kCPU, at::kFloat).contiguous();
  const float* values = rows.const_data_ptr<float>();
  const std::int64_t first =
      std::find_if_not(values, values + rows.numel(), [](float v) { return std::isfinite(v); }) -
      values;
  const auto classes = static_cast<std::int64_t>(names.size());
  const std::int64_t image = first / classes;
  throw NotFinite(image, "image " + std::to_string(image), names[first % classes], values[first]);
}

// `Impl` is private to Classifier, hence the template.
template <typename Impl>
at::Tensor answer_tensor(const Impl& impl, const at::Tensor& images,
                         const std::vector<std::string>* classes) {
  check_tensor(images);
  const std::vector<std::string>& names =
      classes == nullptr ? impl.description().classes : *classes;
  for (const std::string& name : names) column_of(impl.description(), name);
  if (images.size(0) == 0) {
    return at::empty({0, static_cast<std::int64_t>(names.size())},
                     at::TensorOptions(impl.device()).dtype(at::kFloat));
  }
  at::Tensor probabilities = impl.classify(impl.prepare(images), classes);
  check_finite(probabilities, names);
  return probabilities;
}

template <typename Impl>
Probabilities answer_images(const Impl& impl, std::span<const Image> images,
                            const std::vector<std::string>* classes) {
  const std::vector<std::string>& names =
      classes == nullptr ? impl.description().classes : *classes;
  for (const std::string& name : names) column_of(impl.description(), name);
  Probabilities answer;
  answer.images = static_cast<std::int64_t>(images.size());
  answer.classes = static_cast<std::int64_t>(names.size());
  if (images.empty()) return answer;
  const c10::InferenceMode inference;
  std::vector<at::Tensor> prepared;  // each on its own, since sizes may differ
  for (std::size_t i = 0; i < images.size(); ++i) {
    const Image& image = images[i];
    check_image(image, i);
    // from_blob has no const twin; the tensor is only read.
    auto* pixels = const_cast<std::uint8_t*>(image.pixels.data());
    prepared.push_back(impl.prepare(
        at::from_blob(pixels, {1, image.channels, image.height, image.width}, at::kByte)));
  }
  const at::Tensor probabilities =
      impl.classify(at::cat(prepared), classes).to(at::kCPU, at::kFloat).contiguous();
  if (probabilities.sizes() != at::IntArrayRef({answer.images, answer.classes})) {
    throw Error("the model must answer [" + std::to_string(answer.images) + ", " +
                std::to_string(answer.classes) + "], got " + shape(probabilities.sizes()));
  }
  check_finite(probabilities, names);
  const float* values = probabilities.const_data_ptr<float>();
  answer.values.assign(values, values + probabilities.numel());
  return answer;
}

}  // namespace

Classifier::Classifier(const std::filesystem::path& model, const std::string& device)
    : impl_(std::make_unique<Impl>(model, device)) {}
Classifier::~Classifier() = default;
Classifier::Classifier(Classifier&&) noexcept = default;
Classifier& Classifier::operator=(Classifier&&) noexcept = default;

const Description& Classifier::describe() const noexcept { return impl_->description(); }

at::Tensor Classifier::predict(const at::Tensor& images) const {
  return answer_tensor(*impl_, images, nullptr);
}

at::Tensor Classifier::predict(const at::Tensor& images,
                               const std::vector<std::string>& classes) const {
  return answer_tensor(*impl_, images, &classes);
}

Probabilities Classifier::predict(std::span<const Image> images) const {
  return answer_images(*impl_, images, nullptr);
}

Probabilities Classifier::predict(std::span<const Image> images,
                                  const std::vector<std::string>& classes) const {
  return answer_images(*impl_, images, &classes);
}

}  // namespace labelassemble
