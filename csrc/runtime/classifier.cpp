#include "labelassemble/classifier.h"

#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string_view>
#include <utility>

namespace labelassemble {
namespace {

// The layout of the exported module that this file reads; labelassemble/export/torchscript.py
// writes it.
constexpr std::int64_t kFormat = 1;

// TorchScript's messages are tracebacks: the last line says what happened.
std::string last_line(std::string_view text) {
  const std::size_t end = text.find_last_not_of(" \n");
  if (end == std::string_view::npos) return "no reason given";
  text = text.substr(0, end + 1);
  const std::size_t start = text.rfind('\n');
  return std::string(start == std::string_view::npos ? text : text.substr(start + 1));
}

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

std::string shape(at::IntArrayRef sizes) {
  std::string text = "[";
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(sizes[i]);
  }
  return text + "]";
}

at::Device parse_device(const std::string& device) {
  at::Device parsed(at::kCPU);
  try {
    parsed = at::Device(device);
  } catch (const c10::Error&) {
    throw Error("device must be cpu, cuda or cuda:N, got '" + device + "'");
  }
  if (!parsed.is_cpu() && !parsed.is_cuda()) {
    throw Error("device must be cpu, cuda or cuda:N, got '" + device + "'");
  }
  if (parsed.is_cuda() && !at::hasCUDA()) {
    throw Error("device " + device + " is not here: this libtorch was built without CUDA");
  }
  return parsed;
}

torch::jit::Module load_module(const std::filesystem::path& path, at::Device device) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw Error(path.string() + ": no such model");
  if (!std::filesystem::is_regular_file(status)) {
    throw Error(path.string() + ": a model must be a regular file");
  }
  char magic[4] = {};
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(path.string() + ": cannot be opened");
  file.read(magic, sizeof magic);
  if (std::string_view(magic, sizeof magic) != "PK\x03\x04") {
    throw Error(path.string() + ": not a TorchScript file");
  }
  try {
    torch::jit::Module module = torch::jit::load(path.string(), device);
    module.eval();
    return module;
  } catch (const c10::Error& failure) {
    throw Error(path.string() + ": not a TorchScript file that loads on " + device.str() + " (" +
                first_line(failure.what_without_backtrace()) + ")");
  } catch (const std::exception& failure) {
    throw Error(path.string() + ": not a TorchScript file that loads on " + device.str() + " (" +
                first_line(failure.what()) + ")");
  }
}

std::vector<std::string> strings(const torch::jit::Module& module, const char* name) {
  std::vector<std::string> values;
  for (const at::IValue& value : module.attr(name).toListRef())
    values.push_back(value.toStringRef());
  return values;
}

Description read_description(const torch::jit::Module& module, const std::filesystem::path& path) {
  if (!module.hasattr("labelassemble_format")) {
    throw Error(
        path.string() +
        ": not exported by labelassemble (it carries no class names and no input description)");
  }
  Description description;
  try {
    const std::int64_t format = module.attr("labelassemble_format").toInt();
    if (format != kFormat) {
      throw Error(path.string() + ": format " + std::to_string(format) +
                  " of labelassemble's models, and this library reads format " +
                  std::to_string(kFormat));
    }
    description.classes = strings(module, "classes");
    description.interest = strings(module, "interest");
    description.thresholds = module.attr("thresholds").toDoubleVector();
    description.channels = module.attr("input_channels").toInt();
    description.size = module.attr("input_size").toInt();
    description.mean = module.attr("input_mean").toDoubleVector();
    description.std = module.attr("input_std").toDoubleVector();
    description.library = module.attr("library").toStringRef();
  } catch (const c10::Error& failure) {
    throw Error(path.string() + ": damaged description of the model (" +
                first_line(failure.what_without_backtrace()) + ")");
  }
  const std::size_t thresholds = description.thresholds.size();
  if (description.classes.empty() ||
      (thresholds != 0 && thresholds != description.classes.size())) {
    throw Error(path.string() + ": damaged description of the model (" +
                std::to_string(description.classes.size()) + " classes and " +
                std::to_string(thresholds) + " thresholds)");
  }
  return description;
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
      : device_(parse_device(device)),
        module_(load_module(path, device_)),
        description_(read_description(module_, path)) {}

  at::Device device() const { return device_; }
  const Description& description() const { return description_; }

  at::Tensor prepare(const at::Tensor& images) const { return call("prepare", images.to(device_)); }
  at::Tensor classify(const at::Tensor& prepared) const { return call("classify", prepared); }

 private:
  // Methods of a TorchScript module may be called from several threads; only looking one up is not
  // const.
  at::Tensor call(const char* method, const at::Tensor& input) const {
    const c10::InferenceMode inference;
    // TorchScript's optimizer spends the first two calls profiling, 1.3 s for DenseNet121, and
    // gains nothing measurable afterwards on a network that was exported for inference; sizes that
    // change make it start again.
    const torch::jit::GraphOptimizerEnabledGuard no_optimizer(false);
    try {
      return module_.get_method(method)({input}).toTensor();
    } catch (const c10::Error& failure) {
      throw Error("the model failed: " + first_line(failure.what_without_backtrace()));
    } catch (const std::exception& failure) {
      throw Error("the model failed: " + last_line(failure.what()));
    }
  }

  at::Device device_;
  torch::jit::Module module_;
  Description description_;
};

Classifier::Classifier(const std::filesystem::path& model, const std::string& device)
    : impl_(std::make_unique<Impl>(model, device)) {}
Classifier::~Classifier() = default;
Classifier::Classifier(Classifier&&) noexcept = default;
Classifier& Classifier::operator=(Classifier&&) noexcept = default;

const Description& Classifier::describe() const noexcept { return impl_->description(); }

at::Tensor Classifier::predict(const at::Tensor& images) const {
  check_tensor(images);
  if (images.size(0) == 0) {
    const auto classes = static_cast<std::int64_t>(describe().classes.size());
    return at::empty({0, classes}, at::TensorOptions(impl_->device()).dtype(at::kFloat));
  }
  return impl_->classify(impl_->prepare(images));
}

Probabilities Classifier::predict(std::span<const Image> images) const {
  Probabilities answer;
  answer.images = static_cast<std::int64_t>(images.size());
  answer.classes = static_cast<std::int64_t>(describe().classes.size());
  if (images.empty()) return answer;
  const c10::InferenceMode inference;
  std::vector<at::Tensor> prepared;  // each on its own, since sizes may differ
  for (std::size_t i = 0; i < images.size(); ++i) {
    const Image& image = images[i];
    check_image(image, i);
    // from_blob has no const twin; the tensor is only read.
    auto* pixels = const_cast<std::uint8_t*>(image.pixels.data());
    prepared.push_back(impl_->prepare(
        at::from_blob(pixels, {1, image.channels, image.height, image.width}, at::kByte)));
  }
  const at::Tensor probabilities =
      impl_->classify(at::cat(prepared)).to(at::kCPU, at::kFloat).contiguous();
  if (probabilities.sizes() != at::IntArrayRef({answer.images, answer.classes})) {
    throw Error("the model must answer [" + std::to_string(answer.images) + ", " +
                std::to_string(answer.classes) + "], got " + shape(probabilities.sizes()));
  }
  const float* values = probabilities.const_data_ptr<float>();
  answer.values.assign(values, values + probabilities.numel());
  return answer;
}

}  // namespace labelassemble
