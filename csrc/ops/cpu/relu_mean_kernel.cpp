// relu_mean on the CPU: one read of the feature map, nothing of its size written but the gradient.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "ops/class_query_logits.h"
#include "ops/cpu/entry_loop.h"

namespace labelassemble::cpu {
namespace {

using at::Tensor;

// Positions of the spatial axes: calls run(byte offset, stride, number) for every run along the
// last axis of the collapsed ones.
class SpatialRuns {
 public:
  explicit SpatialRuns(const Tensor& feature_map) {
    const auto element = static_cast<std::int64_t>(feature_map.element_size());
    for (std::int64_t axis = 2; axis < feature_map.dim(); ++axis) {
      const std::int64_t size = feature_map.size(axis);
      const std::int64_t stride = feature_map.stride(axis) * element;
      positions_ *= size;
      if (size == 1) continue;
      if (!sizes_.empty() && strides_.back() == stride * size) {
        sizes_.back() *= size;
        strides_.back() = stride;
      } else {
        sizes_.push_back(size);
        strides_.push_back(stride);
      }
    }
    if (sizes_.empty()) {
      sizes_.push_back(1);
      strides_.push_back(element);
    }
  }

  std::int64_t positions() const { return positions_; }
  std::int64_t stride() const { return strides_.back(); }
  bool single() const { return sizes_.size() == 1; }

  template <typename Run>
  void for_each(const Run& run) const {
    const size_t last = sizes_.size() - 1;
    const std::int64_t runs = positions_ == 0 ? 0 : positions_ / sizes_[last];
    for (std::int64_t index = 0; index < runs; ++index) {
      std::int64_t rest = index;
      std::int64_t offset = 0;
      for (size_t axis = last; axis-- > 0;) {
        offset += rest % sizes_[axis] * strides_[axis];
        rest /= sizes_[axis];
      }
      run(offset, strides_[last], sizes_[last]);
    }
  }

 private:
  std::int64_t positions_ = 1;
  at::DimVector sizes_;
  at::DimVector strides_;
};

// The layouts that a network's last feature map has, and any other.
enum class Layout { kRows, kColumns, kAny };

// kRows: a channel's positions lie together, one channel after the other (contiguous). kColumns: a
// position's channels lie together (channels_last).
Layout layout_of(const Tensor& feature_map, const SpatialRuns& spatial) {
  const auto element = static_cast<std::int64_t>(feature_map.element_size());
  const std::int64_t channel_stride = feature_map.stride(1) * element;
  const std::int64_t positions = spatial.positions();
  if (positions == 0) return Layout::kAny;
  if (spatial.single() && spatial.stride() == element && channel_stride == positions * element &&
      positions <= kBlock) {
    return Layout::kRows;
  }
  return channel_stride == element && spatial.stride() != element ? Layout::kColumns : Layout::kAny;
}

template <typename T>
class ReluSums {
 public:
  explicit ReluSums(const Tensor& feature_map)
      : spatial_(feature_map),
        layout_(layout_of(feature_map, spatial_)),
        element_(element_of(feature_map)),
        size_(static_cast<std::int64_t>(feature_map.element_size())),
        channel_stride_(feature_map.stride(1) * size_) {}

  std::int64_t positions() const { return spatial_.positions(); }

  // Sums over the positions of `count` channels of an image, at most kBlock.
  void channels(const char* from, std::int64_t count, T* sums) const {
    switch (layout_) {
      case Layout::kRows:
        return rows(from, count, sums);
      case Layout::kColumns:
        return columns(from, count, sums);
      case Layout::kAny:
        return runs(from, count, sums);
    }
  }

 private:
  bool in_place() const {
    return element_ == (sizeof(T) == sizeof(float) ? Element::kFloat : Element::kDouble);
  }

  const T* read(const char* from, std::int64_t stride, std::int64_t count, T* buffer) const {
    if (in_place() && stride == size_) return reinterpret_cast<const T*>(from);
    kernels_.load(buffer, from, element_, stride, count);
    return buffer;
  }

  void rows(const char* from, std::int64_t count, T* sums) const {
    T buffer[kBlock];
    const std::int64_t positions = spatial_.positions();
    const std::int64_t at_once = in_place() ? count : kBlock / positions;
    for (std::int64_t row = 0; row < count; row += at_once) {
      const std::int64_t some = std::min(at_once, count - row);
      const T* values = read(from + row * channel_stride_, size_, some * positions, buffer);
      kernels_.relu_sum_rows(sums + row, values, some, positions);
    }
  }

  void columns(const char* from, std::int64_t count, T* sums) const {
    T buffer[kBlock];
    std::fill_n(sums, count, T(0));
    spatial_.for_each([&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
      if (in_place() && stride % size_ == 0) {
        return kernels_.relu_add_rows(sums, reinterpret_cast<const T*>(from + offset), length,
                                      stride / size_, count);
      }
      for (std::int64_t i = 0; i < length; ++i) {
        const T* values = read(from + offset + i * stride, size_, count, buffer);
        kernels_.relu_add_rows(sums, values, 1, 0, count);
      }
    });
  }

  void runs(const char* from, std::int64_t count, T* sums) const {
    T buffer[kBlock];
    std::fill_n(sums, count, T(0));
    for (std::int64_t i = 0; i < count; ++i) {
      spatial_.for_each([&](std::int64_t offset, std::int64_t stride, std::int64_t length) {
        const char* run = from + i * channel_stride_ + offset;
        for (std::int64_t begin = 0; begin < length; begin += kBlock) {
          const std::int64_t part = std::min(kBlock, length - begin);
          sums[i] += kernels_.relu_sum(read(run + begin * stride, stride, part, buffer), part);
        }
      });
    }
  }

  const BlockKernelsOf<T>& kernels_ = block_kernels().of<T>();
  SpatialRuns spatial_;
  Layout layout_;
  Element element_;
  std::int64_t size_;
  std::int64_t channel_stride_;
};

template <typename T>
void mean_into(const Tensor& means, const Tensor& feature_map) {
  const BlockKernelsOf<T>& kernels = block_kernels().of<T>();
  const Element element = element_of(feature_map);
  const auto size = static_cast<std::int64_t>(feature_map.element_size());
  const char* data = static_cast<const char*>(feature_map.const_data_ptr());
  char* result = static_cast<char*>(means.mutable_data_ptr());
  const ReluSums<T> relu_sums(feature_map);
  const std::int64_t channels = feature_map.size(1);
  const std::int64_t batch_stride = feature_map.stride(0) * size;
  const std::int64_t channel_stride = feature_map.stride(1) * size;
  const T scale = T(1) / static_cast<T>(relu_sums.positions());
  // By blocks of channels of one image, whatever the layout: the same sums for every number of
  // threads.
  constexpr std::int64_t kChannels = kBlock;
  const std::int64_t blocks = (channels + kChannels - 1) / kChannels;
  const std::int64_t grain = std::max<std::int64_t>(
      1, kChunk / (kChannels * std::max<std::int64_t>(1, relu_sums.positions())));
  at::parallel_for(
      0, feature_map.size(0) * blocks, grain, [&](std::int64_t first, std::int64_t last) {
        T sums[kChannels];
        for (std::int64_t block = first; block < last; ++block) {
          const std::int64_t image = block / blocks;
          const std::int64_t channel = block % blocks * kChannels;
          const std::int64_t count = std::min(kChannels, channels - channel);
          relu_sums.channels(data + image * batch_stride + channel * channel_stride, count, sums);
          for (std::int64_t i = 0; i < count; ++i) sums[i] *= scale;
          kernels.store(result + (image * channels + channel) * size, element, size, sums, count);
        }
      });
}

Tensor forward(const Tensor& feature_map) {
  check_feature_map(feature_map);
  const Tensor means = at::empty({feature_map.size(0), feature_map.size(1)}, feature_map.options());
  if (accumulation_type(feature_map.scalar_type()) == at::kDouble) {
    mean_into<double>(means, feature_map);
  } else {
    mean_into<float>(means, feature_map);
  }
  return means;
}

// A row of one gradient for each channel of an image, read and written in place.
template <typename T>
void spread_rows(const Tensor& result, const Tensor& scaled, const Tensor& feature_map) {
  const BlockKernelsOf<T>& kernels = block_kernels().of<T>();
  const T* grads = scaled.const_data_ptr<T>();
  const T* values = feature_map.const_data_ptr<T>();
  T* to = result.mutable_data_ptr<T>();
  const std::int64_t length = feature_map.numel() / scaled.numel();
  at::parallel_for(0, scaled.numel(), std::max<std::int64_t>(1, kChunk / length),
                   [&](std::int64_t first, std::int64_t last) {
                     kernels.relu_spread_rows(to + first * length, values + first * length,
                                              grads + first, last - first, length);
                   });
}

template <typename T>
void spread_into(const Tensor& result, const Tensor& scaled, const Tensor& feature_map) {
  if (feature_map.scalar_type() == scaled.scalar_type() && feature_map.is_contiguous() &&
      result.is_contiguous()) {
    return spread_rows<T>(result, scaled, feature_map);
  }
  at::DimVector shape(feature_map.dim(), 1);
  shape[0] = feature_map.size(0);
  shape[1] = feature_map.size(1);
  EntryLoop loop;
  loop.add_output(result);
  loop.add_input(feature_map);
  loop.add_input(scaled.view(shape));
  const BlockKernelsOf<T>& kernels = block_kernels().of<T>();
  const Element element = element_of(feature_map);
  loop.run(feature_map.numel(), [&](std::int64_t /*chunk*/, const Rectangle* rectangles) {
    T values[kBlock];
    T grads[kBlock];
    T output[kBlock];
    const std::int64_t size = rectangles[0].columns * rectangles[0].rows;
    for (std::int64_t begin = 0; begin < size; begin += kBlock) {
      const std::int64_t count = std::min(kBlock, size - begin);
      T* to = output_block(rectangles[0], element, begin, output);
      kernels.relu_spread(
          to, read_block(kernels, rectangles[1], element, false, begin, count, values),
          read_block(kernels, rectangles[2], element_of(scaled), false, begin, count, grads),
          count);
      write_block(kernels, rectangles[0], element, begin, count, to, output);
    }
  });
}

Tensor backward(const Tensor& grad, const Tensor& feature_map) {
  check_feature_map(feature_map);
  const at::ScalarType type = accumulation_type(feature_map.scalar_type());
  const std::int64_t entries = feature_map.size(0) * feature_map.size(1);
  const Tensor result = at::empty_like(feature_map);
  if (feature_map.numel() == 0) return result;
  const Tensor scaled =
      grad.to(type).contiguous().div(static_cast<double>(feature_map.numel() / entries));
  if (type == at::kDouble) {
    spread_into<double>(result, scaled, feature_map);
  } else {
    spread_into<float>(result, scaled, feature_map);
  }
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, CPU, m) {
  m.impl("relu_mean", forward);
  m.impl("_relu_mean_backward", backward);
}

}  // namespace labelassemble::cpu
