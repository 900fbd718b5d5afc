#include "network.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>

namespace labelassemble::serve {
namespace {

at::ScalarType scalar_type(DataType type) {
  switch (type) {
    case DataType::kFp16:
      return at::kHalf;
    case DataType::kFp32:
      return at::kFloat;
    case DataType::kFp64:
      return at::kDouble;
    default:
      return at::kByte;
  }
}

at::Tensor tensor_of(const Pixels& pixels) {
  const std::array<std::int64_t, 4> shape{pixels.count, pixels.channels, pixels.height,
                                          pixels.width};
  if (pixels.type == DataType::kUint8) {
    // from_blob has no const twin; the tensor is only read.
    return at::from_blob(const_cast<std::uint8_t*>(pixels.data.data()), shape, at::kByte);
  }
  // A copy, since the bytes of a request may begin anywhere.
  at::Tensor tensor = at::empty(shape, scalar_type(pixels.type));
  std::memcpy(tensor.mutable_data_ptr(), pixels.data.data(), pixels.data.size());
  return tensor;
}

bool alike(const Pixels& a, const Pixels& b) {
  return a.type == b.type && a.channels == b.channels && a.height == b.height && a.width == b.width;
}

}  // namespace

std::vector<float> Network::predict(std::span<const Pixels> images) const {
  const c10::InferenceMode inference;
  std::vector<float> rows;
  if (images.empty()) return rows;
  const auto is_bytes = [](const Pixels& p) { return p.type == DataType::kUint8; };
  if (std::all_of(images.begin(), images.end(),
                  [&](const Pixels& p) { return alike(p, images.front()); })) {
    predict_alike(images, rows);
  } else if (std::all_of(images.begin(), images.end(), is_bytes)) {
    predict_bytes(images, rows);
  } else {
    // Neighbours that are alike, each run of them on its own.
    for (std::size_t start = 0; start < images.size();) {
      std::size_t end = start + 1;
      while (end < images.size() && alike(images[start], images[end])) ++end;
      predict_alike(images.subspan(start, end - start), rows);
      start = end;
    }
  }
  for (const float value : rows) {
    if (!std::isfinite(value)) throw Error("the model answered a value that is not finite");
  }
  return rows;
}

void Network::predict_alike(std::span<const Pixels> images, std::vector<float>& rows) const {
  std::vector<at::Tensor> tensors;
  std::int64_t count = 0;
  for (const Pixels& pixels : images) {
    tensors.push_back(tensor_of(pixels));
    count += pixels.count;
  }
  const at::Tensor batch = tensors.size() == 1 ? tensors.front() : at::cat(tensors);
  const at::Tensor answer = classifier_.predict(batch).to(at::kCPU, at::kFloat).contiguous();
  const auto classes = static_cast<std::int64_t>(describe().classes.size());
  if (answer.dim() != 2 || answer.size(0) != count || answer.size(1) != classes) {
    throw Error("the model must answer [" + std::to_string(count) + ", " + std::to_string(classes) +
                "], and did not");
  }
  const float* values = answer.const_data_ptr<float>();
  rows.insert(rows.end(), values, values + answer.numel());
}

void Network::predict_bytes(std::span<const Pixels> images, std::vector<float>& rows) const {
  std::vector<Image> copies;
  for (const Pixels& pixels : images) {
    const std::int64_t size = pixels.channels * pixels.height * pixels.width;
    for (std::int64_t i = 0; i < pixels.count; ++i) {
      const Bytes one = pixels.data.subspan(i * size, size);
      copies.push_back({pixels.channels, pixels.height, pixels.width, {one.begin(), one.end()}});
    }
  }
  const Probabilities answer = classifier_.predict(copies);
  rows.insert(rows.end(), answer.values.begin(), answer.values.end());
}

void Network::warm_up(std::int64_t batch, DataType type) const {
  const Description& own = describe();
  Pixels pixels;
  pixels.type = type == DataType::kBytes ? DataType::kUint8 : type;
  pixels.count = batch;
  pixels.channels = own.channels;
  pixels.height = own.size;
  pixels.width = own.size;
  const std::vector<std::uint8_t> zeros(batch * own.channels * own.size * own.size *
                                        element_size(pixels.type));
  pixels.data = zeros;
  predict(std::span(&pixels, 1));
}

void set_threads(int threads) {
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  at::set_num_threads(threads > 0 ? threads : static_cast<int>(cores));
}

}  // namespace labelassemble::serve
