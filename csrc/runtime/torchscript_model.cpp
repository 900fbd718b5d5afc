// Models that labelassemble/export/torchscript.py wrote.
#include <c10/util/Exception.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include "model.h"
#include "torchscript.h"

namespace labelassemble {

torch::jit::Module load_module(const std::filesystem::path& path, at::Device device) {
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

namespace {

std::vector<std::string> strings(const torch::jit::Module& module, const char* name) {
  std::vector<std::string> values;
  for (const at::IValue& value : module.attr(name).toListRef())
    values.push_back(value.toStringRef());
  return values;
}

Description read_description(const torch::jit::Module& module, const std::filesystem::path& path) {
  if (module.hasattr(kVolumes)) throw_answers_voxels(path);
  if (!module.hasattr("labelassemble_format")) throw_not_exported(path);
  Description description;
  try {
    check_format(module.attr("labelassemble_format").toInt(), path);
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
  check_description(description, path);
  return description;
}

class TorchScriptModel final : public Model {
 public:
  TorchScriptModel(const std::filesystem::path& path, at::Device device)
      : module_(load_module(path, device)),
        has_queries_(module_.find_method("classify_some").has_value()) {
    description_ = read_description(module_, path);
  }

  at::Tensor prepare(const at::Tensor& images) const override { return call("prepare", {images}); }

  at::Tensor classify(const at::Tensor& prepared) const override {
    return call("classify", {prepared});
  }

  at::Tensor classify(const at::Tensor& prepared,
                      const std::vector<std::string>& classes) const override {
    if (!has_queries_) return Model::classify(prepared, classes);
    for (const std::string& name : classes) column_of(description_, name);
    return call("classify_some", {prepared, c10::List<std::string>(classes)});
  }

 private:
  // Methods of a TorchScript module may be called from several threads; only looking one up is not
  // const.
  at::Tensor call(const char* method, std::vector<at::IValue> inputs) const {
    // TorchScript's optimizer spends the first two calls profiling, 1.3 s for DenseNet121, and
    // gains nothing measurable afterwards on a network that was exported for inference; sizes that
    // change make it start again.
    const torch::jit::GraphOptimizerEnabledGuard no_optimizer(false);
    return module_.get_method(method)(std::move(inputs)).toTensor();
  }

  torch::jit::Module module_;
  bool has_queries_;
};

}  // namespace

std::unique_ptr<Model> load_torchscript(const std::filesystem::path& path, at::Device device) {
  return std::make_unique<TorchScriptModel>(path, device);
}

}  // namespace labelassemble
