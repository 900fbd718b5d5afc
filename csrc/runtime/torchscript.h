// TorchScript files, whatever is in them.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <filesystem>

namespace labelassemble {

// In eval mode. Throws Error with the path for what is none or does not load on the device.
torch::jit::Module load_module(const std::filesystem::path& path, at::Device device);

}  // namespace labelassemble
