// AOTInductor packages, whatever is in them.
#pragma once

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <filesystem>
#include <memory>

#include "entries.h"

namespace labelassemble {

using PackageLoader = torch::inductor::AOTIModelPackageLoader;

// Throws Error with the path for what is none or does not load on the device.
std::unique_ptr<PackageLoader> open_package(const std::filesystem::path& path, at::Device device);

// Throws Error where a package was compiled for another kind of device.
void check_device(const Entries& entries, at::Device device, const std::filesystem::path& path);

}  // namespace labelassemble
