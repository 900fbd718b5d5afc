#include "pixels.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "error.h"

namespace labelassemble::serve {
namespace {

// All decoded images of one request.
constexpr std::size_t kMaxDecodedBytes = std::size_t{512} << 20;

[[noreturn]] void fail(const std::string& what) { throw HttpError(400, what); }

void check_batch(const ModelConfig& config, const std::string& label, std::int64_t count) {
  if (count > config.max_batch_size) {
    fail(label + ": a request may hold at most " + std::to_string(config.max_batch_size) +
         " images for model '" + config.name + "', got " + std::to_string(count) +
         "; send several requests");
  }
}

template <typename T>
bool all_finite(Bytes data) {
  // Adding is quick and spreads what is not finite; a sum that overflows is looked at again.
  T sum = 0;
  for (std::size_t i = 0; i + sizeof(T) <= data.size(); i += sizeof(T)) {
    T value;
    std::memcpy(&value, data.data() + i, sizeof value);
    sum += value - value;  // 0, or NaN for infinities and NaN
  }
  return std::isfinite(sum);
}

bool all_finite_half(Bytes data) {
  for (std::size_t i = 0; i + 2 <= data.size(); i += 2) {
    if ((data[i + 1] & 0x7C) == 0x7C) return false;  // all exponent bits set
  }
  return true;
}

Pixels pixels_of(const ModelConfig& config, const InputTensor& tensor, const std::string& label) {
  std::vector<std::int64_t> wanted = config.input.dims;
  if (config.max_batch_size > 0) wanted.insert(wanted.begin(), -1);
  bool fits = tensor.shape.size() == wanted.size();
  for (std::size_t i = 0; fits && i < wanted.size(); ++i) {
    fits = wanted[i] == -1 || wanted[i] == tensor.shape[i];
  }
  if (!fits) {
    fail(label + " must have the shape " + shape_text(wanted) + " (-1: any), got " +
         shape_text(tensor.shape));
  }
  const std::int64_t channels = tensor.shape[1];
  if (channels != 1 && channels != 3) {
    fail(label + " must have 1 or 3 channels, got " + shape_text(tensor.shape));
  }
  if (tensor.shape[2] > kMaxImagePixels / tensor.shape[3]) {
    fail(label + ": an image must have at most " + std::to_string(kMaxImagePixels) +
         " pixels, got " + shape_text(tensor.shape));
  }
  bool finite = true;
  if (tensor.type == DataType::kFp16) finite = all_finite_half(tensor.data);
  if (tensor.type == DataType::kFp32) finite = all_finite<float>(tensor.data);
  if (tensor.type == DataType::kFp64) finite = all_finite<double>(tensor.data);
  if (!finite) fail(label + " must hold finite values, got NaN or infinity");
  return {tensor.type, tensor.shape[0], channels, tensor.shape[2], tensor.shape[3], tensor.data};
}

void decode(const InputTensor& tensor, const std::string& label, MemoryBudget& budget,
            RequestImages& images) {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < tensor.elements.size(); ++i) {
    const std::string name = label + ", image " + std::to_string(i);
    try {
      images.decoded.push_back(decode_image(tensor.elements[i], name));
    } catch (const Error& error) {
      fail(error.what());
    }
    bytes += images.decoded.back().pixels.size();
    if (bytes > kMaxDecodedBytes) {
      fail(label + ": the images of a request must have at most " +
           std::to_string(kMaxDecodedBytes) + " bytes when decoded");
    }
  }
  images.charge = budget.take(bytes);
  if (!images.charge) throw HttpError(503, "no memory is free for the images of this request", 1);
  for (const Image& image : images.decoded) {
    images.pixels.push_back(
        {DataType::kUint8, 1, image.channels, image.height, image.width, image.pixels});
  }
}

}  // namespace

RequestImages read_images(const ModelConfig& config, const InferRequest& request,
                          MemoryBudget& budget) {
  const TensorConfig& wanted = config.input;
  for (const InputTensor& tensor : request.inputs) {
    if (tensor.name != wanted.name) {
      fail("model '" + config.name + "' has no input '" + tensor.name + "'; its input is '" +
           wanted.name + "'");
    }
  }
  const InputTensor& tensor = request.inputs.front();
  const std::string label = "input '" + tensor.name + "'";
  if (tensor.type != wanted.type && tensor.type != DataType::kBytes) {
    fail(label + " of model '" + config.name + "' must be " + std::string(name_of(wanted.type)) +
         (wanted.type == DataType::kBytes ? "" : ", or BYTES with JPEG or PNG images") + ", got " +
         std::string(name_of(tensor.type)));
  }
  RequestImages images;
  if (tensor.type == DataType::kBytes) {
    // [B], or [B, 1] as Triton's ensembles have it.
    const bool fits =
        tensor.shape.size() == 1 || (tensor.shape.size() == 2 && tensor.shape[1] == 1);
    if (!fits)
      fail(label + " of BYTES must have the shape [B] or [B, 1], got " + shape_text(tensor.shape));
    if (config.max_batch_size > 0) check_batch(config, label, tensor.shape[0]);
    images.count = tensor.shape[0];
    decode(tensor, label, budget, images);
  } else {
    if (config.max_batch_size > 0) check_batch(config, label, tensor.shape[0]);
    images.pixels.push_back(pixels_of(config, tensor, label));
    images.count = tensor.shape[0];
  }
  return images;
}

}  // namespace labelassemble::serve
