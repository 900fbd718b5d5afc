// Which instruction set's loops run.
#include "ops/cpu/block_kernels.h"

#include <ATen/Version.h>
#include <c10/util/Exception.h>

#include <string>

#include "processor.h"

namespace labelassemble::cpu {

namespace baseline {
const BlockKernels& kernels();
}
#ifdef LABELASSEMBLE_X86
namespace avx2 {
const BlockKernels& kernels();
}
namespace avx512 {
const BlockKernels& kernels();
}
#endif

const BlockKernels& block_kernels() {
  static const BlockKernels& chosen = []() -> const BlockKernels& {
#ifdef LABELASSEMBLE_X86
    const std::string missing = missing_capability();
    TORCH_CHECK(missing.empty(), "labelassemble: ", missing);
    const std::string capability = at::get_cpu_capability();
    if (capability.starts_with("AVX512")) return avx512::kernels();
    if (capability.starts_with("AVX2")) return avx2::kernels();
#endif
    return baseline::kernels();
  }();
  return chosen;
}

}  // namespace labelassemble::cpu
