// Models that labelassemble/export/pt2.py wrote: packages of AOTInductor.
#include <ATen/Functions.h>
#include <c10/util/Exception.h>

#include "entries.h"
#include "model.h"
#include "package.h"

namespace labelassemble {

std::unique_ptr<PackageLoader> open_package(const std::filesystem::path& path, at::Device device) {
  try {
    return std::make_unique<PackageLoader>(path.string(), "model", /*run_single_threaded=*/false,
                                           /*num_runners=*/1, device.index());
  } catch (const c10::Error& failure) {
    throw Error(path.string() + ": not an AOTInductor package that loads here (" +
                first_line(failure.what_without_backtrace()) + ")");
  } catch (const std::exception& failure) {
    throw Error(path.string() + ": not an AOTInductor package that loads here (" +
                first_line(failure.what()) + ")");
  }
}

void check_device(const Entries& entries, at::Device device, const std::filesystem::path& path) {
  const auto compiled = entries.find("AOTI_DEVICE_KEY");
  if (compiled != entries.end() && compiled->second != c10::DeviceTypeName(device.type(), true)) {
    throw Error(path.string() + ": compiled for " + compiled->second + ", and device is " +
                device.str());
  }
}

namespace {

class PackageModel final : public Model {
 public:
  PackageModel(const std::filesystem::path& path, at::Device device)
      : loader_(open_package(path, device)) {
    const Entries entries = loader_->get_metadata();
    if (entries.contains(std::string("labelassemble.") + kVolumes)) throw_answers_voxels(path);
    if (!entries.contains("labelassemble.format")) throw_not_exported(path);
    check_format(whole_number(entries, "format", path), path);
    description_.classes = lines(entries, "classes", path);
    description_.interest = lines(entries, "interest", path);
    description_.thresholds = numbers(entries, "thresholds", path);
    description_.channels = whole_number(entries, "input_channels", path);
    description_.size = whole_number(entries, "input_size", path);
    description_.mean = numbers(entries, "input_mean", path);
    description_.std = numbers(entries, "input_std", path);
    description_.library = entry(entries, "library", path);
    check_description(description_, path);
    check_device(entries, device, path);
  }

  // What the package leaves to its callers: grey or colour, 0..1, and one size for all (where the
  // size fits, its own resizing changes nothing). The values are those of
  // labelassemble/views/preprocess.py.
  at::Tensor prepare(const at::Tensor& images) const override {
    at::Tensor x;
    if (description_.channels == 1 && images.size(1) == 3) {
      // ITU-R BT.601 luma.
      x = images.narrow(1, 0, 1).to(at::kFloat).mul(0.299);
      x.add_(images.narrow(1, 1, 1).to(at::kFloat), 0.587);
      x.add_(images.narrow(1, 2, 1).to(at::kFloat), 0.114);
    } else {
      x = images.to(at::kFloat);
    }
    if (images.scalar_type() == at::kByte) x = x.div(255.0);
    const std::int64_t size = description_.size;
    x = x.expand({-1, description_.channels, -1, -1});
    if (x.size(2) != size || x.size(3) != size) {
      x = at::_upsample_bilinear2d_aa(x, {size, size}, /*align_corners=*/false);
    }
    return x;
  }

  at::Tensor classify(const at::Tensor& prepared) const override {
    return loader_->run({prepared.contiguous()}).at(0);  // one call at a time; others wait
  }
  using Model::classify;

 private:
  std::unique_ptr<PackageLoader> loader_;
};

}  // namespace

std::unique_ptr<Model> load_package(const std::filesystem::path& path, at::Device device) {
  return std::make_unique<PackageModel>(path, device);
}

}  // namespace labelassemble
