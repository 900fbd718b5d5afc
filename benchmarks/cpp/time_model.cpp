// time_model MODEL BATCH SECONDS THREADS: prints the seconds of loading, then of each prediction on
// images uint8 [BATCH, 1, 224, 224]; benchmarks/export.py reads them.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/randint.h>
#include <labelassemble/classifier.h>
#include <labelassemble/memory.h>

#include <chrono>
#include <cstdlib>
#include <iostream>

namespace {
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}
}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  labelassemble::keep_freed_memory();
  at::set_num_threads(std::atoi(argv[4]));
  const Clock::time_point loading = Clock::now();
  const labelassemble::Classifier classifier(argv[1]);
  std::cout << seconds_since(loading) << "\n";
  const at::Tensor images = at::randint(0, 256, {std::atoi(argv[2]), 1, 224, 224}, at::kByte);
  for (int i = 0; i < 3; ++i) classifier.predict(images);
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < 5 || seconds_since(start) < std::atof(argv[3]); ++i) {
    const Clock::time_point call = Clock::now();
    classifier.predict(images);
    std::cout << seconds_since(call) << "\n";
  }
}
