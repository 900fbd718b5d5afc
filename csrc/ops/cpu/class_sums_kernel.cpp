// class_sums on the CPU: forward and backward each read logits and targets once, and write nothing
// of their size but the gradient. What is summed by chunk does not depend on the number of threads.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <vector>

#include "ops/class_sums.h"
#include "ops/cpu/planes.h"
#include "ops/dense_like.h"

namespace labelassemble::cpu {
namespace {

using at::Tensor;

constexpr std::int64_t kPositions = 32 * kBlock;  // of a chunk

// Calls body(chunk, image, class, position, count, first of a chunk's buffers) for every block.
template <typename T, typename Body>
void for_blocks(std::int64_t images, std::int64_t classes, std::int64_t positions,
                const Body& body) {
  const std::int64_t chunks = (positions + kPositions - 1) / kPositions;
  at::parallel_for(0, images * classes * chunks, 1, [&](std::int64_t first, std::int64_t last) {
    alignas(64) std::array<T, 3 * kBlock> buffers;
    for (std::int64_t chunk = first; chunk < last; ++chunk) {
      const std::int64_t plane = chunk / chunks;
      const std::int64_t begin = chunk % chunks * kPositions;
      const std::int64_t end = std::min(positions, begin + kPositions);
      for (std::int64_t position = begin; position < end; position += kBlock) {
        body(chunk, plane / classes, plane % classes, position, std::min(kBlock, end - position),
             buffers.data());
      }
    }
  });
}

template <typename T>
Tensor sums_of(const Planes& logits, const Planes& targets, double threshold) {
  const std::int64_t images = logits.tensor.size(0);
  const std::int64_t classes = logits.tensor.size(1);
  const std::int64_t chunks = (logits.positions + kPositions - 1) / kPositions;
  const BlockKernelsOf<T>& kernels = block_kernels().of<T>();
  std::vector<ClassSums> sums(static_cast<std::size_t>(images * classes * chunks));
  for_blocks<T>(images, classes, logits.positions,
                [&](std::int64_t chunk, std::int64_t image, std::int64_t c, std::int64_t position,
                    std::int64_t count, T* buffers) {
                  const T* z =
                      logits.read<T>(kernels, logits.at(image, c, position), false, count, buffers);
                  const T* y = targets.read<T>(kernels, targets.at(image, c, position), true, count,
                                               buffers + kBlock);
                  kernels.class_sums(z, y, static_cast<T>(threshold), count,
                                     sums[static_cast<std::size_t>(chunk)]);
                });
  const Tensor result = at::zeros({6, classes}, logits.tensor.options().dtype(at::kDouble));
  auto* const numbers = result.mutable_data_ptr<double>();
  for (std::int64_t chunk = 0; chunk < images * classes * chunks; ++chunk) {
    const ClassSums& one = sums[static_cast<std::size_t>(chunk)];
    const std::array<double, 6> values{one.overlap,
                                       one.predicted,
                                       one.drawn,
                                       static_cast<double>(one.known),
                                       static_cast<double>(one.positive),
                                       static_cast<double>(one.not_finite)};
    for (std::int64_t row = 0; row < 6; ++row)
      numbers[row * classes + chunk / chunks % classes] += values[static_cast<std::size_t>(row)];
  }
  return result;
}

Tensor forward(const Tensor& logits, const Tensor& targets, double threshold) {
  check_class_sums(logits, targets);
  if (logits.numel() == 0)
    return at::zeros({6, logits.size(1)}, logits.options().dtype(at::kDouble));
  const Planes z = Planes::of(logits);
  const Planes y = Planes::of(targets);
  return logits.scalar_type() == at::kDouble ? sums_of<double>(z, y, threshold)
                                             : sums_of<float>(z, y, threshold);
}

template <typename T>
void gradient_into(const Tensor& result, const Tensor& grad, const Planes& logits,
                   const Planes& targets) {
  const BlockKernelsOf<T>& kernels = block_kernels().of<T>();
  const std::int64_t classes = result.size(1);
  const Planes out = Planes::of(result);
  const auto* const numbers = grad.const_data_ptr<double>();
  for_blocks<T>(
      result.size(0), classes, logits.positions,
      [&](std::int64_t /*chunk*/, std::int64_t image, std::int64_t c, std::int64_t position,
          std::int64_t count, T* buffers) {
        const T* z = logits.read<T>(kernels, logits.at(image, c, position), false, count, buffers);
        const T* y =
            targets.read<T>(kernels, targets.at(image, c, position), true, count, buffers + kBlock);
        char* const to = out.at(image, c, position);
        T* const block = out.in_place<T>() ? reinterpret_cast<T*>(to) : buffers + 2 * kBlock;
        kernels.class_sums_backward(z, y, static_cast<T>(numbers[c]),
                                    static_cast<T>(numbers[classes + c]), count, block);
        if (!out.in_place<T>()) kernels.store(to, out.element, out.stride, block, count);
      });
}

Tensor backward(const Tensor& grad, const Tensor& logits, const Tensor& targets) {
  check_class_sums(logits, targets);
  TORCH_CHECK(grad.scalar_type() == at::kDouble && grad.dim() == 2 && grad.size(0) == 6 &&
                  grad.size(1) == logits.size(1),
              "class_sums: grad must be float64 [6, ", logits.size(1), "], got ",
              grad.scalar_type(), " ", grad.sizes());
  const Tensor result = dense_like(logits, logits.scalar_type());
  if (result.numel() == 0) return result;
  const Planes z = Planes::of(logits);
  const Planes y = Planes::of(targets);
  const Tensor dense = grad.contiguous();
  logits.scalar_type() == at::kDouble ? gradient_into<double>(result, dense, z, y)
                                      : gradient_into<float>(result, dense, z, y);
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(labelassemble, CPU, m) {
  m.impl("class_sums", forward);
  m.impl("_class_sums_backward", backward);
}

}  // namespace labelassemble::cpu
