// labelassemble._C: what this build is.

#include <pybind11/pybind11.h>

#include <map>
#include <string>

#include "build_info.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native part of labelassemble.";
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["version"] = labelassemble::kVersion;
        info["torch"] = labelassemble::kTorchVersion;
        info["cuda"] = std::string(labelassemble::kCudaBuilt) == "ON";
        info["cuda_reason"] = labelassemble::kCudaReason;
        info["compiler"] = labelassemble::kCompiler;
        return info;
      },
      "Versions and choices of this build, as a dict.");
}
