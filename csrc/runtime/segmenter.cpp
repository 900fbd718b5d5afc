#include "labelassemble/segmenter.h"

#include <ATen/Parallel.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "grid.h"
#include "labelassemble/decode_guard.h"
#include "model.h"
#include "nifti_header.h"
#include "patch_model.h"
#include "patient_score.h"
#include "windows.h"

namespace labelassemble {
namespace {

std::string text_of(const Shape& shape) {
  return std::to_string(shape[0]) + " x " + std::to_string(shape[1]) + " x " +
         std::to_string(shape[2]);
}

void check_axes(const Volume& volume, std::size_t axes) {
  if (axes == 2 && volume.shape[2] != 1) {
    throw Error("the model answers slices, and the volume has " + std::to_string(volume.shape[2]) +
                " of them (" + text_of(volume.shape) + "): give it one at a time");
  }
  if (axes == 3 && volume.header.has_value() && nifti_axes(*volume.header) == 2) {
    throw Error("the model answers volumes, and the file has two axes (" +
                std::to_string(volume.shape[0]) + " x " + std::to_string(volume.shape[1]) + ")");
  }
}

void check_volume(const Volume& volume, std::size_t axes) {
  bool fits = true;
  std::int64_t voxels = 1;
  for (const std::int64_t size : volume.shape) {
    fits = fits && size > 0 && voxels <= kMaxVolumeVoxels / size;
    voxels = fits ? voxels * size : 0;
  }
  if (!fits || volume.values.size() != static_cast<std::size_t>(voxels)) {
    throw Error("a volume must hold a value a voxel, got " + std::to_string(volume.values.size()) +
                " for " + text_of(volume.shape));
  }
  check_axes(volume, axes);
}

// A header can tell of voxels so large that their number with the model's spacing has no type.
void check_prepared(const Shape& shape) {
  std::int64_t voxels = 1;
  for (const std::int64_t size : shape) {
    if (size < 1 || size > kMaxVolumeVoxels / voxels) {
      throw Error("a volume must have 1 to " + std::to_string(kMaxVolumeVoxels) + " voxels, got " +
                  text_of(shape) + " with the model's spacing");
    }
    voxels *= size;
  }
}

void check_values(std::span<const float> values) {
  const auto odd = std::count_if(values.begin(), values.end(),
                                 [](float value) { return !std::isfinite(value); });
  if (odd > 0) {
    throw Error(std::to_string(odd) + " of the volume's " + std::to_string(values.size()) +
                " voxels are NaN or infinite");
  }
}

// As numpy.percentile: between the two nearest values.
float percentile(std::vector<float>& values, double percent) {
  const double place = percent / 100.0 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::int64_t>(place);
  std::nth_element(values.begin(), values.begin() + below, values.end());
  const float low = values[below];
  if (below + 1 >= static_cast<std::int64_t>(values.size())) return low;
  const float high = *std::min_element(values.begin() + below + 1, values.end());
  return static_cast<float>(low + (place - static_cast<double>(below)) *
                                      (static_cast<double>(high) - static_cast<double>(low)));
}

std::pair<float, float> range_of(std::span<const float> values, const SegmenterDescription& model) {
  if (!model.window.empty())
    return {static_cast<float>(model.window[0]), static_cast<float>(model.window[1])};
  std::vector<float> sorted(values.begin(), values.end());
  const float low = percentile(sorted, model.percentiles[0]);
  return {low, percentile(sorted, model.percentiles[1])};
}

// In a slice only the sizes of its voxels count, not how it lies.
Grid stored_grid(const Volume& volume, std::size_t axes) {
  if (axes == 3) return {volume.shape, volume.affine};
  const std::array<double, 3> sizes = spacing_of(volume.affine);
  return {volume.shape, {sizes[0], 0, 0, 0, 0, sizes[1], 0, 0, 0, 0, sizes[2], 0, 0, 0, 0, 1}};
}

// A volume and a window over it, with three axes: a slice's first one is 1 long.
struct Swept {
  Shape size;
  Shape patch;
};

Swept swept(const Shape& shape, const std::vector<std::int64_t>& patch) {
  if (patch.size() == 2) return {{1, shape[0], shape[1]}, {1, patch[0], patch[1]}};
  return {shape, {patch[0], patch[1], patch[2]}};
}

// The windows over a volume, and what they add up to.
class Sweep {
 public:
  Sweep(const Volume& volume, const SegmenterDescription& model, std::vector<float>& sums)
      : volume_(volume), classes_(static_cast<std::int64_t>(model.classes.size())), sums_(sums) {
    const auto [size, patch] = swept(volume.shape, model.patch);
    size_ = size;
    patch_ = patch;
    weights_ = window_weights(patch_);
    std::array<std::vector<std::int64_t>, 3> starts;
    for (int axis = 0; axis < 3; ++axis)
      starts[axis] = window_starts(size_[axis], patch_[axis], model.overlap);
    windows_.reserve(starts[0].size() * starts[1].size() * starts[2].size());
    for (const std::int64_t a : starts[0]) {
      for (const std::int64_t b : starts[1]) {
        for (const std::int64_t c : starts[2]) windows_.push_back({a, b, c});
      }
    }
    counts_.resize(static_cast<std::size_t>(volume.voxels()));
    sums_.resize(static_cast<std::size_t>(volume.voxels() * classes_));
    shape_ = {0, 1};
    shape_.insert(shape_.end(), model.patch.begin(), model.patch.end());
  }

  std::int64_t windows() const { return static_cast<std::int64_t>(windows_.size()); }

  // Windows `first` to `last`: [last - first, 1, *patch], 0 where a window is beyond the volume.
  // With others of zeros behind them where they are fewer than `least`.
  at::Tensor cut(std::int64_t first, std::int64_t last, std::int64_t least) const {
    std::vector<std::int64_t> shape = shape_;
    shape[0] = std::max(last - first, least);
    at::Tensor batch = at::zeros(shape, at::kFloat);
    float* target = batch.mutable_data_ptr<float>();
    for (std::int64_t n = first; n < last; ++n, target += window_voxels()) {
      for_each_row(
          windows_[n], [&](std::int64_t inside, std::int64_t outside, std::int64_t length) {
            std::memcpy(target + inside, volume_.values.data() + outside, length * sizeof(float));
          });
    }
    return batch;
  }

  // Adds the logits [at least last - first, C, *patch] of the windows that `cut` gave.
  void add(std::int64_t first, std::int64_t last, const at::Tensor& logits) {
    const float* answer = logits.const_data_ptr<float>();
    for (std::int64_t n = 0; n < last - first; ++n) {
      const Shape& start = windows_[first + n];
      at::parallel_for(0, classes_ + 1, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t c = begin; c < end; ++c) {
          const float* values = answer + (n * classes_ + c) * window_voxels();
          c < classes_ ? add_class(start, values, sums_.data() + c * volume_.voxels())
                       : add_weights(start);
        }
      });
    }
  }

  // What was added, as the mean by weight, then as probabilities. Throws Error for what is not
  // finite.
  void finish(const std::vector<std::string>& names) {
    const std::int64_t voxels = volume_.voxels();
    const at::Tensor counts = at::from_blob(counts_.data(), {voxels}, at::kFloat);
    for (std::int64_t c = 0; c < classes_; ++c) {
      at::Tensor sums = at::from_blob(sums_.data() + c * voxels, {voxels}, at::kFloat);
      const auto [low, high] = at::aminmax(sums.div_(counts));  // NaN where there is one
      if (!std::isfinite(low.item<float>()) || !std::isfinite(high.item<float>())) {
        throw Error("the model's answer for '" + names[c] + "' must be finite at every voxel");
      }
      sums.sigmoid_();
    }
  }

 private:
  std::int64_t window_voxels() const { return patch_[0] * patch_[1] * patch_[2]; }

  // Calls `f(place in the window, place in the volume, length)` for the rows that both have.
  template <typename F>
  void for_each_row(const Shape& start, F f) const {
    Shape from{}, to{};
    for (int axis = 0; axis < 3; ++axis) {
      from[axis] = std::max<std::int64_t>(0, -start[axis]);
      to[axis] = std::min(patch_[axis], size_[axis] - start[axis]);
    }
    for (std::int64_t a = from[0]; a < to[0]; ++a) {
      for (std::int64_t b = from[1]; b < to[1]; ++b) {
        f((a * patch_[1] + b) * patch_[2] + from[2],
          ((start[0] + a) * size_[1] + start[1] + b) * size_[2] + start[2] + from[2],
          to[2] - from[2]);
      }
    }
  }

  void add_class(const Shape& start, const float* logits, float* sums) const {
    for_each_row(start, [&](std::int64_t inside, std::int64_t outside, std::int64_t length) {
      const float* weights = weights_.data() + inside;
      for (std::int64_t n = 0; n < length; ++n)
        sums[outside + n] += logits[inside + n] * weights[n];
    });
  }

  void add_weights(const Shape& start) {
    for_each_row(start, [&](std::int64_t inside, std::int64_t outside, std::int64_t length) {
      for (std::int64_t n = 0; n < length; ++n) counts_[outside + n] += weights_[inside + n];
    });
  }

  const Volume& volume_;
  std::int64_t classes_;
  std::vector<float>& sums_;
  std::vector<float> counts_;
  std::vector<float> weights_;
  std::vector<Shape> windows_;
  std::vector<std::int64_t> shape_;
  Shape size_{};
  Shape patch_{};
};

}  // namespace

class Segmenter::Impl {
 public:
  Impl(const std::filesystem::path& path, const std::string& device)
      : device_(parse_device(device)), model_(load_patch_model(path, device_)) {}

  const SegmenterDescription& description() const { return model_->description(); }
  std::size_t axes() const { return description().patch.size(); }
  bool on_cpu() const { return device_.is_cpu(); }

  at::Tensor logits(const at::Tensor& windows) const {
    at::Tensor answer;
    try {
      answer = model_->logits(windows.to(device_)).to(at::kCPU, at::kFloat).contiguous();
    } catch (const c10::Error& failure) {
      throw Error("the model fails: " + last_line(failure.what_without_backtrace()));
    } catch (const Error&) {
      throw;
    } catch (const std::exception& failure) {
      throw Error("the model fails: " + last_line(failure.what()));
    }
    std::vector<std::int64_t> expected = windows.sizes().vec();
    expected[1] = static_cast<std::int64_t>(description().classes.size());
    if (answer.sizes() != at::IntArrayRef(expected)) {
      throw Error("the model must answer " + shape(expected) + ", got " + shape(answer.sizes()));
    }
    return answer;
  }

 private:
  at::Device device_;
  std::unique_ptr<PatchModel> model_;
};

Volume make_volume(const std::array<std::int64_t, 3>& shape, const std::array<double, 3>& spacing,
                   std::vector<float> values) {
  Volume volume;
  volume.shape = shape;
  for (int axis = 0; axis < 3; ++axis) {
    if (!(spacing[axis] > 0.0 && std::isfinite(spacing[axis]))) {
      throw Error("spacing must be above 0 along each axis, got " + std::to_string(spacing[axis]));
    }
    volume.affine[axis * 5] = spacing[axis];
  }
  volume.values = std::move(values);
  check_volume(volume, 3);
  return volume;
}

Segmenter::Segmenter(const std::filesystem::path& model, const std::string& device)
    : impl_(std::make_unique<Impl>(model, device)) {}
Segmenter::~Segmenter() = default;
Segmenter::Segmenter(Segmenter&&) noexcept = default;
Segmenter& Segmenter::operator=(Segmenter&&) noexcept = default;

const SegmenterDescription& Segmenter::describe() const noexcept { return impl_->description(); }

Volume Segmenter::prepare(Volume volume) const {
  check_volume(volume, impl_->axes());
  check_values(volume.values);
  const auto [low, high] = range_of(volume.values, describe());
  const Grid stored = stored_grid(volume, impl_->axes());
  const Grid grid = network_grid(stored, describe().spacing, static_cast<int>(impl_->axes()));
  check_prepared(grid.shape);
  Volume prepared{grid.shape, grid.affine, {}, {}};
  prepared.values =
      same_voxels(stored, grid) ? std::move(volume.values) : resample(volume.values, stored, grid);
  const float width = high - low;
  at::parallel_for(0, prepared.voxels(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      float& value = prepared.values[n];
      value = width > 0.0F ? std::min(std::max((value - low) / width, 0.0F), 1.0F) : 0.0F;
    }
  });
  return prepared;
}

std::vector<float> Segmenter::probabilities(const Volume& prepared, std::int64_t batch) const {
  check_volume(prepared, impl_->axes());
  if (batch < 0) throw Error("batch must be at least 0, got " + std::to_string(batch));
  const c10::InferenceMode inference;
  std::vector<float> sums;
  Sweep sweep(prepared, describe(), sums);
  // As many calls as needed, of nearly one size: no single window is left for the last one.
  const WindowsAtOnce at_once =
      batch > 0 ? WindowsAtOnce{batch, 1} : windows_at_once(describe().patch, impl_->on_cpu());
  const std::int64_t windows = sweep.windows();
  const std::int64_t calls = (windows + at_once.most - 1) / at_once.most;
  for (std::int64_t call = 0; call < calls; ++call) {
    check_interrupt();
    const std::int64_t first = windows * call / calls;
    const std::int64_t last = windows * (call + 1) / calls;
    sweep.add(first, last, impl_->logits(sweep.cut(first, last, at_once.least)));
  }
  sweep.finish(describe().classes);
  return sums;
}

Segmentation Segmenter::answer(const Volume& prepared, std::int64_t batch) const {
  const SegmenterDescription& model = describe();
  Segmentation found;
  found.shape = prepared.shape;
  found.affine = prepared.affine;
  found.classes = static_cast<std::int64_t>(model.classes.size());
  found.probabilities = probabilities(prepared, batch);
  for (std::int64_t c = 0; c < found.classes; ++c)
    found.scores.push_back(patient_score(found.of(c), found.shape, model.top, model.maximum));
  return found;
}

Segmentation Segmenter::segment(Volume volume, std::int64_t batch) const {
  return answer(prepare(std::move(volume)), batch);
}

SegmenterBytes Segmenter::bytes_for(const Volume& volume) const {
  check_axes(volume, impl_->axes());
  const SegmenterDescription& model = describe();
  const Grid stored = stored_grid(volume, impl_->axes());
  const Grid grid = network_grid(stored, model.spacing, static_cast<int>(impl_->axes()));
  check_prepared(grid.shape);
  const auto [size, patch] = swept(grid.shape, model.patch);
  std::size_t voxels = 1, window = 1, windows = 1;
  for (int axis = 0; axis < 3; ++axis) {
    voxels *= static_cast<std::size_t>(size[axis]);
    window *= static_cast<std::size_t>(patch[axis]);
    windows *= static_cast<std::size_t>(window_count(size[axis], patch[axis], model.overlap));
  }
  const std::size_t classes = model.classes.size();
  const std::size_t map = voxels * sizeof(float);
  const std::size_t sorted =
      model.window.empty() ? static_cast<std::size_t>(volume.voxels()) * sizeof(float) : 0;
  // Beside a map for each class: one of weights, the windows that go in and come out, their weights
  // and where all of them begin; and after that what the scores take.
  constexpr std::size_t kTogether = 4;
  const std::size_t sweep =
      map + ((classes + 1) * kTogether + 1) * window * sizeof(float) + 2 * windows * sizeof(Shape);
  return {.prepare = std::max(sorted, same_voxels(stored, grid) ? 0 : map),
          .prepared = map,
          .answer = classes * map + std::max(sweep, patient_score_bytes(grid.shape)),
          .answered = classes * map};
}

std::vector<std::uint8_t> Segmenter::mask(const Segmentation& answer, const Volume& volume) const {
  return classes_of_voxels(answer.probabilities, answer.classes, {answer.shape, answer.affine},
                           stored_grid(volume, impl_->axes()), describe().threshold);
}

std::vector<float> Segmenter::on_voxels_of(const Volume& volume, const Segmentation& answer,
                                           std::int64_t column) const {
  return resample(answer.of(column), {answer.shape, answer.affine},
                  stored_grid(volume, impl_->axes()));
}

}  // namespace labelassemble
