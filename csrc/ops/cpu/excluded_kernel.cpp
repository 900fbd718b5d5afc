// excluded on the CPU: one pass in blocks of positions, all classes of a block together in the
// first or second cache; nothing but the result is written to memory.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>

#include "ops/cpu/planes.h"
#include "ops/dense_like.h"
#include "ops/excluded.h"

namespace labelassemble::cpu {
namespace {

using at::Tensor;

template <typename T>
void into(const Tensor& result, const Planes& logits, const Planes& targets,
          const Tensor& exclusive, double threshold) {
  const std::int64_t images = result.size(0);
  const std::int64_t classes = result.size(1);
  const Planes masks = Planes::of(result);
  const BlockKernelsOf<T>& kernels = block_kernels().of<T>();
  const std::int64_t blocks = (logits.positions + kBlock - 1) / kBlock;
  const bool* const matrices = exclusive.const_data_ptr<bool>();
  const std::int64_t next = exclusive.dim() == 3 ? classes * classes : 0;
  at::parallel_for(0, images * blocks, 16, [&](std::int64_t first, std::int64_t last) {
    const auto size = static_cast<std::size_t>(classes * kBlock);
    const auto memory = std::make_unique_for_overwrite<T[]>(3 * size);
    const auto absent = std::make_unique_for_overwrite<unsigned char[]>(size);
    T* const z = memory.get();
    T* const y = z + classes * kBlock;
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t image = task / blocks;
      const std::int64_t begin = task % blocks * kBlock;
      const std::int64_t count = std::min(kBlock, logits.positions - begin);
      for (std::int64_t c = 0; c < classes; ++c) {
        kernels.load(z + c * kBlock, logits.at(image, c, begin), logits.element, logits.stride,
                     count);
        kernels.load_target(y + c * kBlock, targets.at(image, c, begin), targets.element,
                            targets.stride, count);
      }
      kernels.excluded({classes, count, z, y, y + classes * kBlock, matrices + image * next,
                        static_cast<T>(threshold), absent.get()});
      for (std::int64_t c = 0; c < classes; ++c) {
        char* const to = masks.at(image, c, begin);
        const unsigned char* const from = absent.get() + c * kBlock;
        for (std::int64_t i = 0; i < count; ++i) to[i * masks.stride] = static_cast<char>(from[i]);
      }
    }
  });
}

Tensor kernel(const Tensor& logits, const Tensor& targets, const Tensor& exclusive,
              double threshold) {
  check_excluded(logits, targets, exclusive);
  const Tensor result = dense_like(logits, at::kBool);
  if (result.numel() == 0) return result;
  const bool rows = logits.dim() == 2 && exclusive.dim() == 2;  // images lie as positions do
  const auto turned = [rows](const Tensor& tensor) {
    return rows ? tensor.t().unsqueeze(0) : tensor;
  };
  const Planes z = Planes::of(turned(logits));
  const Planes y = Planes::of(turned(targets));
  const Tensor matrices = exclusive.contiguous();
  logits.scalar_type() == at::kDouble ? into<double>(turned(result), z, y, matrices, threshold)
                                      : into<float>(turned(result), z, y, matrices, threshold);
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, CPU, m) { m.impl("excluded", kernel); }

}  // namespace labelassemble::cpu
