#include "volume_network.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "error.h"
#include "labelassemble/decode_guard.h"
#include "pixels.h"

namespace labelassemble::serve {
namespace {

// Asked while a volume is read and between its windows.
class Guard final : public DecodeGuard {
 public:
  explicit Guard(const Interrupt& interrupt, std::size_t most = 0,
                 MemoryBudget::Charge* charge = nullptr)
      : interrupt_(interrupt), most_(most), charge_(charge) {}

  void admit(std::size_t memory, std::size_t work) override {
    if (charge_ == nullptr) return;
    if (work > most_) {
      throw HttpError(413, "a volume must have at most " + std::to_string(most_) +
                               " bytes of values (--max-image), got " + std::to_string(work));
    }
    charge_->add(memory);
  }
  void check() override { interrupt_(); }

 private:
  const Interrupt& interrupt_;
  const std::size_t most_;
  MemoryBudget::Charge* const charge_;
};

bool is_asked_for(const InferRequest& request, const char* name) {
  return std::any_of(request.outputs.begin(), request.outputs.end(),
                     [&](const RequestedOutput& output) { return output.name == name; });
}

// Bytes of the files that are asked for, and of what they are made from.
std::size_t bytes_of_files(const InferRequest& request, std::size_t voxels, std::size_t columns) {
  std::size_t bytes = 0;
  if (is_asked_for(request, VolumeNetwork::kMask)) bytes += voxels + encode_nifti_bytes(voxels);
  if (is_asked_for(request, VolumeNetwork::kProbabilities)) {
    const std::size_t map = voxels * sizeof(float);  // of one class at a time
    bytes += map + encode_nifti_bytes(map, columns);
  }
  return bytes;
}

const InputTensor& volume_of(const InferRequest& request, const std::string& label) {
  for (const InputTensor& input : request.inputs) {
    if (input.name != VolumeNetwork::kInput) {
      throw HttpError(400, "the model has no input '" + input.name + "'; its input is '" +
                               VolumeNetwork::kInput + "', a NIfTI file");
    }
  }
  const InputTensor& input = request.inputs.front();
  if (input.type != DataType::kBytes || input.elements.size() != 1) {
    throw HttpError(400, label + " must be one NIfTI file, BYTES of the shape [1], got " +
                             std::string(name_of(input.type)) + " " + shape_text(input.shape));
  }
  return input;
}

std::string of_known_length(std::string file) {
  if (file.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw HttpError(413, "the answer has " + std::to_string(file.size()) +
                             " bytes, and a file in a tensor at most 4 GiB: ask for fewer classes");
  }
  return file;
}

}  // namespace

VolumeNetwork::VolumeNetwork(const std::filesystem::path& path, const std::string& device)
    : segmenter_(path, device) {
  if (!reads_nifti()) {
    throw Error(path.string() +
                ": a model of volumes, which come as NIfTI files, and this server was built "
                "without zlib; to change that: apt-get install zlib1g-dev, then build it again");
  }
  description_.classes = segmenter().classes;
  description_.interest = segmenter().interest;
  description_.thresholds = segmenter().thresholds;
  description_.library = segmenter().library;
}

TensorConfig VolumeNetwork::input() const { return {kInput, DataType::kBytes, {1}, ""}; }

std::vector<TensorConfig> VolumeNetwork::outputs() const {
  const auto classes = static_cast<std::int64_t>(describe().classes.size());
  return {{kScores, DataType::kFp32, {1, classes}, ""},
          {kMask, DataType::kBytes, {1}, ""},
          {kProbabilities, DataType::kBytes, {1}, ""}};
}

PreparedVolume VolumeNetwork::read(const InferRequest& request, std::size_t columns,
                                   std::size_t max_image, MemoryBudget::Charge& charge,
                                   const Interrupt& interrupt) const {
  const std::string label = std::string("input '") + kInput + "'";
  const InputTensor& input = volume_of(request, label);
  PreparedVolume volume;
  try {
    const Guard guard(interrupt, max_image, &charge);
    const std::size_t before = charge.bytes();
    Volume whole = read_nifti(input.elements.front(), label);
    volume.stored.shape = whole.shape;
    volume.stored.affine = whole.affine;
    volume.stored.header = whole.header;
    const auto voxels = static_cast<std::size_t>(whole.voxels());
    const std::size_t stored = voxels * sizeof(float);
    const SegmenterBytes bytes = segmenter_.bytes_for(whole);
    const std::size_t files = bytes_of_files(request, voxels, columns);
    volume.bytes = bytes.prepared + std::max(bytes.answer, bytes.answered + files);
    // Now it is as large as it will be: what finds no memory later would be computed for nothing.
    charge.subtract(charge.bytes() - before - stored);
    charge.add(std::max(stored + bytes.prepare, volume.bytes) - stored);
    volume.seen = segmenter_.prepare(std::move(whole));
  } catch (const HttpError&) {
    throw;
  } catch (const Error& error) {
    const std::string text = error.what();
    throw UnreadableImage(text.starts_with(label) ? text : label + ": " + text);
  }
  return volume;
}

Segmentation VolumeNetwork::answer(const PreparedVolume& volume, const Interrupt& interrupt) const {
  const Guard guard(interrupt);
  return segmenter_.answer(volume.seen);
}

std::string VolumeNetwork::mask(const PreparedVolume& volume, const Segmentation& answer,
                                const Interrupt& interrupt) const {
  const Guard guard(interrupt);
  return of_known_length(encode_nifti(volume.stored, segmenter_.mask(answer, volume.stored)));
}

std::string VolumeNetwork::probabilities(const PreparedVolume& volume, const Segmentation& answer,
                                         std::span<const std::size_t> columns,
                                         const Interrupt& interrupt) const {
  const Guard guard(interrupt);
  const auto map = [&](std::int64_t place) {
    const auto column = static_cast<std::int64_t>(columns[static_cast<std::size_t>(place)]);
    return segmenter_.on_voxels_of(volume.stored, answer, column);
  };
  return of_known_length(
      encode_nifti(volume.stored, static_cast<std::int64_t>(columns.size()), map));
}

void VolumeNetwork::warm_up() const {
  const std::vector<std::int64_t>& patch = segmenter().patch;
  Volume blank;
  blank.shape = {patch[0], patch[1], patch.size() == 3 ? patch[2] : 1};
  blank.values.resize(static_cast<std::size_t>(blank.voxels()));
  segmenter_.answer(blank);
}

}  // namespace labelassemble::serve
