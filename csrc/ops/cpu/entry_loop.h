// Walks entries of several tensors of one shape together, in chunks of a fixed size over threads
// and in blocks within a chunk: what is summed by chunk does not depend on the number of threads.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <array>

#include "ops/cpu/block_kernels.h"
#include "ops/element_of.h"

namespace labelassemble::cpu {

inline constexpr std::int64_t kChunk = 32 * kBlock;
inline constexpr std::size_t kTensors = 9;  // at most, in one loop

// A rectangle of entries of one tensor: `rows` rows of `columns`, strides in bytes.
struct Rectangle {
  char* data;
  std::int64_t stride;
  std::int64_t row_stride;
  std::int64_t columns;
  std::int64_t rows;

  bool flat() const { return rows == 1 || row_stride == columns * stride; }

  // Calls run(address, stride, offset in the block, number) for the rows' parts within the block.
  template <typename Run>
  void for_parts(std::int64_t begin, std::int64_t count, const Run& run) const {
    if (flat()) return run(data + begin * stride, stride, 0, count);
    for (std::int64_t done = 0; done < count;) {
      const std::int64_t row = (begin + done) / columns;
      const std::int64_t column = (begin + done) % columns;
      const std::int64_t part = std::min(columns - column, count - done);
      run(data + row * row_stride + column * stride, stride, done, part);
      done += part;
    }
  }
};

// The block of an input as T: in place where it lies so, else converted into the buffer.
template <typename T>
const T* read_block(const BlockKernelsOf<T>& kernels, const Rectangle& input, Element element,
                    bool target, std::int64_t begin, std::int64_t count, T* buffer) {
  constexpr Element own = sizeof(T) == sizeof(float) ? Element::kFloat : Element::kDouble;
  if (element == own && input.stride == sizeof(T) && input.flat()) {
    return reinterpret_cast<const T*>(input.data) + begin;
  }
  const auto load = target ? kernels.load_target : kernels.load;
  input.for_parts(begin, count,
                  [&](const char* from, std::int64_t stride, std::int64_t offset,
                      std::int64_t part) { load(buffer + offset, from, element, stride, part); });
  return buffer;
}

// Where a kernel writes the block of an output; `write_block` then takes it to the tensor if it is
// a buffer.
template <typename T>
T* output_block(const Rectangle& output, Element element, std::int64_t begin, T* buffer) {
  constexpr Element own = sizeof(T) == sizeof(float) ? Element::kFloat : Element::kDouble;
  const bool in_place = element == own && output.stride == sizeof(T) && output.flat();
  return in_place ? reinterpret_cast<T*>(output.data) + begin : buffer;
}

template <typename T>
void write_block(const BlockKernelsOf<T>& kernels, const Rectangle& output, Element element,
                 std::int64_t begin, std::int64_t count, const T* block, const T* buffer) {
  if (block != buffer) return;
  output.for_parts(begin, count,
                   [&](char* to, std::int64_t stride, std::int64_t offset, std::int64_t part) {
                     kernels.store(to, element, stride, block + offset, part);
                   });
}

class EntryLoop {
 public:
  // Outputs before inputs; returns the tensor's place in what `run` passes on.
  int add_output(const at::Tensor& tensor) {
    config_.add_output(tensor);
    return add(tensor);
  }
  int add_input(const at::Tensor& tensor) {
    config_.add_const_input(tensor);
    return add(tensor);
  }

  // Calls body(chunk, rectangles) for every chunk of `total` entries, from at::parallel_for.
  template <typename Body>
  void run(std::int64_t total, const Body& body) {
    const std::int64_t chunks = (total + kChunk - 1) / kChunk;
    if (flat_) {
      at::parallel_for(0, chunks, 1, [&](std::int64_t first, std::int64_t last) {
        std::array<Rectangle, kTensors> rectangles{};
        for (std::int64_t chunk = first; chunk < last; ++chunk) {
          const std::int64_t begin = chunk * kChunk;
          for (size_t i = 0; i < tensors_.size(); ++i) {
            const std::int64_t size = static_cast<std::int64_t>(tensors_[i].element_size());
            char* data = static_cast<char*>(const_cast<void*>(tensors_[i].const_data_ptr()));
            rectangles[i] = {data + begin * size, size, 0, std::min(kChunk, total - begin), 1};
          }
          body(chunk, rectangles.data());
        }
      });
      return;
    }
    config_.set_check_mem_overlap(false).check_all_same_dtype(false).resize_outputs(false);
    at::TensorIterator iterator = config_.build();
    at::parallel_for(0, chunks, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t chunk = first; chunk < last; ++chunk) {
        const auto loop = [&](char** data, const std::int64_t* strides, std::int64_t columns,
                              std::int64_t rows) {
          std::array<Rectangle, kTensors> rectangles{};
          for (size_t i = 0; i < tensors_.size(); ++i) {
            rectangles[i] = {data[i], strides[i], strides[tensors_.size() + i], columns, rows};
          }
          body(chunk, rectangles.data());
        };
        iterator.serial_for_each(loop, {chunk * kChunk, std::min(total, (chunk + 1) * kChunk)});
      }
    });
  }

 private:
  int add(const at::Tensor& tensor) {
    flat_ = flat_ && tensor.is_contiguous() &&
            (tensors_.empty() || tensor.sizes() == tensors_[0].sizes());
    tensors_.push_back(tensor);
    return static_cast<int>(tensors_.size()) - 1;
  }

  at::TensorIteratorConfig config_;
  c10::SmallVector<at::Tensor, kTensors> tensors_;
  bool flat_ = true;
};

}  // namespace labelassemble::cpu
