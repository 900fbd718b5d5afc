// Runs CUDA kernels on the CPU: the threads of a block are fibers, run in random order between
// barriers; some blocks are under way at a time, in random order too. device.h makes of this what
// kernels call.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>

namespace cuda_on_cpu {

inline constexpr unsigned kWarp = 32;

// Runs body once for each thread of the grid; in a capture it is kept for replay instead.
cudaError_t launch(dim3 grid, dim3 threads, const std::function<void()>& body);

// Of the thread that runs.
extern dim3 threadIdx;
extern dim3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
// What a thread calls. The first two take the place in the sources, so that a test can leave a
// single one out.
void barrier(const char* file, int line);
void fence(const char* file, int line);
// The value of the lane that is `down` further in the warp.
std::uint64_t value_of_lane(unsigned mask, std::uint64_t value, unsigned down);
unsigned add(unsigned* place, unsigned value);

// Whether `bytes` at `address` are on the stack of a fiber.
bool on_a_stack(std::uintptr_t address);

// Which thread runs, as races.cpp numbers it; block -1: none.
struct Position {
  std::int64_t launch = 0;
  std::int64_t block = -1;
  unsigned slot = 0;  // of the blocks under way
  unsigned thread = 0;
  unsigned interval = 0;  // barriers that the block has passed
  unsigned fences = 0;    // that the thread has passed
};
const Position& position();

// The first thing that was wrong is kept; launches fail from then on until it is taken.
void report(const std::string& fault);

// The shared memory of the block that runs, where it lies and how large it is.
std::uintptr_t shared_begin();
std::size_t shared_size();

std::mt19937_64& random();

}  // namespace cuda_on_cpu
