// The model's own forward, again and again on the same batch: what no server can be quicker than.
//   forward_loop MODEL IMAGES CHANNELS SIZE BATCH SECONDS THREADS
// IMAGES holds raw uint8 pixels [N, CHANNELS, SIZE, SIZE]. Prints one line of JSON.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>
#include <vector>

#include "labelassemble/classifier.h"
#include "labelassemble/memory.h"

namespace {

using Clock = std::chrono::steady_clock;

void run(char** argv) {
  const labelassemble::Classifier classifier(argv[1]);
  std::ifstream file(argv[2], std::ios::binary);
  std::vector<char> pixels{std::istreambuf_iterator<char>(file), {}};
  const std::int64_t channels = std::atoll(argv[3]);
  const std::int64_t size = std::atoll(argv[4]);
  const std::int64_t batch = std::atoll(argv[5]);
  const std::chrono::duration<double> seconds(std::atof(argv[6]));
  const int threads = std::atoi(argv[7]);
  at::set_num_threads(threads > 0 ? threads
                                  : static_cast<int>(std::thread::hardware_concurrency()));
  if (static_cast<std::int64_t>(pixels.size()) < batch * channels * size * size) {
    throw std::runtime_error("too few images for one batch");
  }
  const at::Tensor images = at::from_blob(pixels.data(), {batch, channels, size, size}, at::kByte);
  for (int i = 0; i < 3; ++i) classifier.predict(images);
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  while (Clock::now() - start < seconds) {
    const Clock::time_point before = Clock::now();
    classifier.predict(images);
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - before).count());
  }
  const double whole = std::chrono::duration<double>(Clock::now() - start).count();
  std::sort(times.begin(), times.end());
  std::printf("{\"images_s\": %.3f, \"p50_ms\": %.4f, \"p95_ms\": %.4f, \"batches\": %zu}\n",
              static_cast<double>(times.size()) * static_cast<double>(batch) / whole,
              times[times.size() / 2], times[times.size() * 95 / 100], times.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fputs("usage: forward_loop MODEL IMAGES CHANNELS SIZE BATCH SECONDS THREADS\n", stderr);
    return 2;
  }
  labelassemble::keep_freed_memory();
  try {
    run(argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "forward_loop: %s\n", error.what());
    return 2;
  }
}
