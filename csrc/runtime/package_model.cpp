// Models that labelassemble/export/pt2.py wrote: packages of AOTInductor.
#include <ATen/Functions.h>
#include <c10/util/Exception.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <charconv>
#include <unordered_map>

#include "model.h"

namespace labelassemble {
namespace {

using Entries = std::unordered_map<std::string, std::string>;
using Loader = torch::inductor::AOTIModelPackageLoader;

const std::string& entry(const Entries& entries, const std::string& name,
                         const std::filesystem::path& path) {
  const auto found = entries.find("labelassemble." + name);
  if (found == entries.end()) {
    throw Error(path.string() + ": damaged description of the model (no " + name + ")");
  }
  return found->second;
}

// One a line.
std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> values;
  for (std::size_t start = 0; !text.empty() && start <= text.size();) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    values.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return values;
}

template <typename T>
T number(const std::string& text, const std::string& name, const std::filesystem::path& path) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Error(path.string() + ": damaged description of the model (" + name + " is '" + text +
                "')");
  }
  return value;
}

std::vector<double> numbers(const Entries& entries, const std::string& name,
                            const std::filesystem::path& path) {
  std::vector<double> values;
  for (const std::string& line : lines(entry(entries, name, path)))
    values.push_back(number<double>(line, name, path));
  return values;
}

std::unique_ptr<Loader> load(const std::filesystem::path& path, at::Device device) {
  try {
    return std::make_unique<Loader>(path.string(), "model", /*run_single_threaded=*/false,
                                    /*num_runners=*/1, device.index());
  } catch (const c10::Error& failure) {
    throw Error(path.string() + ": not an AOTInductor package that loads here (" +
                first_line(failure.what_without_backtrace()) + ")");
  } catch (const std::exception& failure) {
    throw Error(path.string() + ": not an AOTInductor package that loads here (" +
                first_line(failure.what()) + ")");
  }
}

class PackageModel final : public Model {
 public:
  PackageModel(const std::filesystem::path& path, at::Device device) : loader_(load(path, device)) {
    const Entries entries = loader_->get_metadata();
    if (!entries.contains("labelassemble.format")) throw_not_exported(path);
    check_format(number<std::int64_t>(entry(entries, "format", path), "format", path), path);
    description_.classes = lines(entry(entries, "classes", path));
    description_.interest = lines(entry(entries, "interest", path));
    description_.thresholds = numbers(entries, "thresholds", path);
    description_.channels =
        number<std::int64_t>(entry(entries, "input_channels", path), "input_channels", path);
    description_.size =
        number<std::int64_t>(entry(entries, "input_size", path), "input_size", path);
    description_.mean = numbers(entries, "input_mean", path);
    description_.std = numbers(entries, "input_std", path);
    description_.library = entry(entries, "library", path);
    check_description(description_, path);
    const auto compiled = entries.find("AOTI_DEVICE_KEY");
    if (compiled != entries.end() && compiled->second != c10::DeviceTypeName(device.type(), true)) {
      throw Error(path.string() + ": compiled for " + compiled->second + ", and device is " +
                  device.str());
    }
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
  std::unique_ptr<Loader> loader_;
};

}  // namespace

std::unique_ptr<Model> load_package(const std::filesystem::path& path, at::Device device) {
  return std::make_unique<PackageModel>(path, device);
}

}  // namespace labelassemble
