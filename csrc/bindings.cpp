// labelassemble._C: what this build is, and the ops as Python functions for eager calls.
#include <pybind11/pybind11.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>

#include <exception>
#include <string>

#include "build_info.h"
#include "ops/class_query_logits.h"
#include "ops/class_sums.h"
#include "ops/cpu/block_kernels.h"
#include "ops/excluded.h"
#include "ops/partial_label_loss.h"
#include "processor.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  m.doc() = "Native part of labelassemble.";
  // The sentence without the stack of C++ functions that pybind11 would take along. An exception of
  // Python, which a hook of saved tensors raises (activation checkpointing does), goes on as it is.
  py::register_local_exception_translator([](std::exception_ptr raised) {
    try {
      if (raised) std::rethrow_exception(raised);
    } catch (python_error& error) {
      error.restore();
    } catch (const c10::Error& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what_without_backtrace());
    }
  });
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["version"] = labelassemble::kVersion;
        info["torch"] = labelassemble::kTorchVersion;
        info["cuda"] = std::string(labelassemble::kCudaBuilt) == "ON";
        info["cuda_reason"] = labelassemble::kCudaReason;
        info["serve"] = std::string(labelassemble::kServeBuilt) == "ON";
        info["serve_reason"] = labelassemble::kServeReason;
        info["compiler"] = labelassemble::kCompiler;
        return info;
      },
      "Versions and choices of this build, as a dict.");
  m.def(
      "missing_capability", [] { return labelassemble::missing_capability(); },
      "What ATEN_CPU_CAPABILITY asks for and this processor lacks, as a sentence, or nothing.");
  m.def(
      "cpu_capability", [] { return labelassemble::cpu::block_kernels().capability; },
      "The instruction set whose kernels run: baseline, avx2 or avx512.");
  m.def("partial_label_loss", labelassemble::with_schema<labelassemble::partial_label_loss>,
        py::call_guard<py::gil_scoped_release>(),
        "See labelassemble.functional.partial_label_loss.");
  m.def("partial_label_loss_terms",
        labelassemble::with_terms_schema<labelassemble::partial_label_loss_terms>,
        py::call_guard<py::gil_scoped_release>(), "See labelassemble.PartialLabelLoss.terms.");
  m.def("masked_bce_with_logits", labelassemble::masked_bce_with_logits,
        py::call_guard<py::gil_scoped_release>(),
        "See labelassemble.functional.masked_bce_with_logits.");
  m.def("excluded", labelassemble::excluded, py::call_guard<py::gil_scoped_release>(),
        "See labelassemble.functional.excluded.");
  m.def("class_sums", labelassemble::class_sums, py::call_guard<py::gil_scoped_release>(),
        "See labelassemble.ops.class_sums.");
  m.def("class_query_logits", labelassemble::class_query_logits,
        py::call_guard<py::gil_scoped_release>(),
        "See labelassemble.functional.class_query_logits.");
  m.def("pooled_class_query_logits", labelassemble::pooled_class_query_logits,
        py::call_guard<py::gil_scoped_release>(),
        "See labelassemble.functional.pooled_class_query_logits.");
}
