// Finds two threads that reach the same memory without order between them: a missing __syncthreads
// in a block, a missing
// __threadfence between blocks, whether or not the result was wrong this time; and shared memory
// that is read before it is written. The kernels are compiled with -fsanitize=thread, whose calls
// for each access are answered here instead of by its own library: that one knows nothing of CUDA's
// rules and has too few threads.
#pragma once

#include <cstdint>

namespace cuda_on_cpu::races {

void start_launch(std::int64_t launch);
void start_block(unsigned slot);
void pass_barrier(unsigned slot);
void pass_fence();
void atomic(const void* place);

}  // namespace cuda_on_cpu::races
