#include "patch_model.h"

#include <c10/util/Exception.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>

#include "entries.h"
#include "model.h"
#include "package.h"
#include "torchscript.h"

namespace labelassemble {
namespace {

[[noreturn]] void throw_answers_images(const std::filesystem::path& path) {
  throw Error(path.string() +
              ": a model that answers whole images, and a volume's voxels were to "
              "be answered: give it images");
}

[[noreturn]] void damaged(const std::filesystem::path& path, const std::string& what) {
  throw Error(path.string() + ": damaged description of the model (" + what + ")");
}

bool rises(const std::vector<double>& range) { return range.size() == 2 && range[0] < range[1]; }

void check(const SegmenterDescription& model, const std::filesystem::path& path) {
  const std::size_t axes = model.patch.size();
  if (model.classes.empty() || model.classes.size() > 255) {
    damaged(path, std::to_string(model.classes.size()) + " classes");
  }
  if (!model.thresholds.empty() && model.thresholds.size() != model.classes.size()) {
    damaged(path, std::to_string(model.thresholds.size()) + " thresholds");
  }
  const bool fits = (axes == 2 || axes == 3) &&
                    std::all_of(model.patch.begin(), model.patch.end(),
                                [](std::int64_t size) { return size > 0 && size <= 4096; });
  if (!fits) damaged(path, "a patch of " + std::to_string(axes) + " sizes, or one out of range");
  const bool spaced = std::all_of(model.spacing.begin(), model.spacing.end(),
                                  [](double size) { return size > 0.0 && size < 1e6; });
  if (!spaced || (!model.spacing.empty() && model.spacing.size() != axes)) damaged(path, "spacing");
  if (!(model.overlap >= 0.0 && model.overlap < 1.0)) damaged(path, "overlap");
  if (!model.window.empty() && !rises(model.window)) damaged(path, "window");
  if (model.window.empty() &&
      !(rises(model.percentiles) && model.percentiles[0] >= 0.0 && model.percentiles[1] <= 100.0)) {
    damaged(path, "percentiles");
  }
  if (!(model.top > 0.0 && model.top <= 1.0)) damaged(path, "top");
}

SegmenterDescription describe(const Entries& entries, const std::filesystem::path& path) {
  const std::int64_t format = whole_number(entries, kVolumes, path);
  if (format != kVolumesFormat) {
    throw Error(path.string() + ": format " + std::to_string(format) +
                " of labelassemble's models of volumes, and this library reads format " +
                std::to_string(kVolumesFormat));
  }
  SegmenterDescription model;
  model.classes = lines(entries, "classes", path);
  model.interest = lines(entries, "interest", path);
  model.thresholds = numbers(entries, "thresholds", path);
  model.patch = whole_numbers(entries, "patch", path);
  model.overlap = number(entries, "overlap", path);
  model.spacing = numbers(entries, "spacing", path);
  model.window = numbers(entries, "window", path);
  model.percentiles = numbers(entries, "percentiles", path);
  model.threshold = number(entries, "threshold", path);
  model.maximum = entry(entries, "patient_score", path) == "maximum";
  model.top = number(entries, "top", path);
  model.library = entry(entries, "library", path);
  check(model, path);
  return model;
}

class ScriptedPatches final : public PatchModel {
 public:
  ScriptedPatches(const std::filesystem::path& path, at::Device device)
      : module_(load_module(path, device)) {
    if (!module_.hasattr(kVolumes)) {
      if (module_.hasattr("labelassemble_format")) throw_answers_images(path);
      throw_not_exported(path);
    }
    Entries entries;
    try {
      for (const auto& pair : module_.attr(kVolumes).toGenericDict())
        entries.emplace(pair.key().toStringRef(), pair.value().toStringRef());
    } catch (const c10::Error& failure) {
      damaged(path, first_line(failure.what_without_backtrace()));
    }
    description_ = describe(entries, path);
  }

  at::Tensor logits(const at::Tensor& windows) const override {
    const torch::jit::GraphOptimizerEnabledGuard no_optimizer(false);  // as for images
    return module_.get_method("forward")({windows}).toTensor();
  }

 private:
  torch::jit::Module module_;
};

class PackagedPatches final : public PatchModel {
 public:
  PackagedPatches(const std::filesystem::path& path, at::Device device)
      : loader_(open_package(path, device)) {
    const Entries entries = loader_->get_metadata();
    if (!entries.contains(std::string("labelassemble.") + kVolumes)) {
      if (entries.contains("labelassemble.format")) throw_answers_images(path);
      throw_not_exported(path);
    }
    description_ = describe(entries, path);
    check_device(entries, device, path);
  }

  at::Tensor logits(const at::Tensor& windows) const override {
    return loader_->run({windows.contiguous()}).at(0);  // one call at a time; others wait
  }

 private:
  std::unique_ptr<PackageLoader> loader_;
};

}  // namespace

std::unique_ptr<PatchModel> load_patch_model(const std::filesystem::path& path, at::Device device) {
  if (is_package(path)) return std::make_unique<PackagedPatches>(path, device);
  return std::make_unique<ScriptedPatches>(path, device);
}

}  // namespace labelassemble
