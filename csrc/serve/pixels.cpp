#include "pixels.h"

#include <cstring>

#include "error.h"
#include "labelassemble/decode_guard.h"
#include "labelassemble/image.h"

namespace labelassemble::serve {
namespace {

// No radiograph, and no JPEG, is longer.
constexpr std::int64_t kMaxSide = 65'535;

[[noreturn]] void fail(const std::string& what) { throw HttpError(400, what); }

// Of a request to a model that does not batch.
constexpr std::int64_t kMostImages = 64;

void check_batch(const ModelConfig& config, const std::string& label, std::int64_t count) {
  const std::int64_t most = config.max_batch_size > 0 ? config.max_batch_size : kMostImages;
  if (count > most) {
    fail(label + ": a request may hold at most " + std::to_string(most) + " images for model '" +
         config.name + "', got " + std::to_string(count) + "; send several requests");
  }
}

void check_sides(const std::string& label, std::int64_t width, std::int64_t height) {
  const std::string came = std::to_string(width) + " x " + std::to_string(height);
  if (width > kMaxSide || height > kMaxSide) {
    fail(label + ": an image must have at most " + std::to_string(kMaxSide) +
         " pixels a side, got " + came);
  }
  if (width > kMaxImagePixels / height) {
    fail(label + ": an image must have at most " + std::to_string(kMaxImagePixels) +
         " pixels, got " + came);
  }
}

// True where every value is from 0 to 1; false for NaN too.
template <typename T>
bool all_in_unit_range(Bytes data) {
  bool good = true;
  for (std::size_t i = 0; i + sizeof(T) <= data.size(); i += sizeof(T)) {
    T value;
    std::memcpy(&value, data.data() + i, sizeof value);
    good &= value >= T{0} && value <= T{1};
  }
  return good;
}

// Halves from 0 to 1 have the bits 0 to 0x3C00, or those of -0.
bool all_halves_in_unit_range(Bytes data) {
  bool good = true;
  for (std::size_t i = 0; i + 2 <= data.size(); i += 2) {
    const unsigned bits = data[i] | (unsigned{data[i + 1]} << 8);
    good &= bits <= 0x3C00U || bits == 0x8000U;
  }
  return good;
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
  check_sides(label, tensor.shape[3], tensor.shape[2]);
  bool good = true;
  if (tensor.type == DataType::kFp16) good = all_halves_in_unit_range(tensor.data);
  if (tensor.type == DataType::kFp32) good = all_in_unit_range<float>(tensor.data);
  if (tensor.type == DataType::kFp64) good = all_in_unit_range<double>(tensor.data);
  if (!good) {
    fail(label + " of " + std::string(name_of(tensor.type)) +
         " must hold finite values from 0 (black) to 1 (white)");
  }
  return {tensor.type, tensor.shape[0], channels, tensor.shape[2], tensor.shape[3], tensor.data};
}

// Takes memory for an image before it is decoded, and gives it back when it is gone.
class Guard final : public DecodeGuard {
 public:
  Guard(const std::string& name, std::size_t max_image, MemoryBudget::Charge& charge,
        const Interrupt& interrupt)
      : name_(name), max_image_(max_image), charge_(charge), interrupt_(interrupt) {}
  ~Guard() override { charge_.subtract(taken_); }

  void admit(std::size_t memory, std::size_t work) override {
    if (work > max_image_) {
      throw HttpError(413, name_ + ": an image must have at most " + std::to_string(max_image_) +
                               " bytes of pixels, got " + std::to_string(work));
    }
    charge_.add(memory);
    taken_ += memory;
  }
  void check() override { interrupt_(); }

 private:
  const std::string& name_;
  const std::size_t max_image_;
  MemoryBudget::Charge& charge_;
  const Interrupt& interrupt_;
  std::size_t taken_ = 0;
};

// Decodes and resizes one image; its memory is free again when this returns.
void decode(Bytes encoded, const std::string& name, const NetworkInput& network,
            std::size_t max_image, float* out, MemoryBudget::Charge& charge,
            const Interrupt& interrupt) {
  const Guard guard(name, max_image, charge, interrupt);
  Image image;
  try {
    image = decode_image(encoded, name);
  } catch (const HttpError&) {
    throw;
  } catch (const Error& error) {
    throw UnreadableImage(error.what());
  }
  check_sides(name, image.width, image.height);
  const TemporaryCharge rows(charge, prepare_bytes(image.height, image.width, network.size));
  prepare({DataType::kUint8, 1, image.channels, image.height, image.width, image.pixels},
          network.channels, network.size, out, interrupt);
}

}  // namespace

PreparedImages read_images(const ModelConfig& config, const NetworkInput& network,
                           const InferRequest& request, std::size_t max_image,
                           MemoryBudget::Charge& charge, const Interrupt& interrupt) {
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
         (wanted.type == DataType::kBytes ? "" : ", or BYTES with image files") + ", got " +
         std::string(name_of(tensor.type)));
  }
  const bool encoded = tensor.type == DataType::kBytes;
  // [B], or [B, 1] as Triton's ensembles have it.
  if (encoded && tensor.shape.size() != 1 && (tensor.shape.size() != 2 || tensor.shape[1] != 1)) {
    fail(label + " of BYTES must have the shape [B] or [B, 1], got " + shape_text(tensor.shape));
  }
  check_batch(config, label, tensor.shape[0]);
  PreparedImages images;
  images.count = tensor.shape[0];
  const std::int64_t each = network.channels * network.size * network.size;
  // Once here, once in the batch.
  charge.add(2 * sizeof(float) * static_cast<std::size_t>(images.count * each));
  if (encoded) {
    images.values.resize(static_cast<std::size_t>(images.count * each));
    for (std::size_t i = 0; i < tensor.elements.size(); ++i) {
      interrupt();
      decode(tensor.elements[i], label + ", image " + std::to_string(i), network, max_image,
             images.values.data() + static_cast<std::int64_t>(i) * each, charge, interrupt);
    }
  } else {
    const Pixels pixels = pixels_of(config, tensor, label);
    const TemporaryCharge rows(charge, prepare_bytes(pixels.height, pixels.width, network.size));
    images.values.resize(static_cast<std::size_t>(images.count * each));
    prepare(pixels, network.channels, network.size, images.values.data(), interrupt);
  }
  return images;
}

}  // namespace labelassemble::serve
