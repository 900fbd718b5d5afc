// The table of one instruction set's loops.
#include "ops/cpu/class_block.h"
#include "ops/cpu/convert_block.h"
#include "ops/cpu/partial_label_loss_block.h"
#include "ops/cpu/relu_mean_block.h"

#define LABELASSEMBLE_TEXT_OF(name) #name
#define LABELASSEMBLE_TEXT(name) LABELASSEMBLE_TEXT_OF(name)

namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY {
namespace {

template <typename T>
constexpr BlockKernelsOf<T> kernels_of() {
  return {loss_forward<T>,       loss_backward<T>, load<T>,
          load_target<T>,        store<T>,         relu_sum<T>,
          relu_sum_rows<T>,      relu_add_rows<T>, relu_spread<T>,
          relu_spread_rows<T>,   excluded<T>,      class_sums<T>,
          class_sums_backward<T>};
}

constexpr BlockKernels kKernels{LABELASSEMBLE_TEXT(LABELASSEMBLE_CAPABILITY), kernels_of<float>(),
                                kernels_of<double>()};

}  // namespace

const BlockKernels& kernels() { return kKernels; }

}  // namespace labelassemble::cpu::LABELASSEMBLE_CAPABILITY
