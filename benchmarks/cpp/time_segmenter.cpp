// time_segmenter MODEL VALUES I J K BATCH ROUNDS THREADS ANSWER EDGE: a volume float32 [I, J, K]
// from the file VALUES, its probabilities to the file ANSWER; EDGE: of the patch. Prints a line for
// each round: wall seconds, processor seconds; then the bytes that the process took at most beyond
// those with model and volume in memory, the answer among them. benchmarks/sliding_window.py reads
// them.
#include <ATen/Parallel.h>
#include <labelassemble/memory.h>
#include <labelassemble/segmenter.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace {

// "VmRSS" or "VmHWM", in bytes.
long memory(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":"))
      return std::strtol(line.c_str() + field.size() + 1, nullptr, 10) << 10;
  }
  return 0;
}

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 11) return 2;
  labelassemble::keep_freed_memory();
  at::set_num_threads(std::atoi(argv[8]));
  const labelassemble::Segmenter segmenter(argv[1]);
  const std::array<std::int64_t, 3> shape{std::atoll(argv[3]), std::atoll(argv[4]),
                                          std::atoll(argv[5])};
  std::vector<float> values(static_cast<std::size_t>(shape[0] * shape[1] * shape[2]));
  std::ifstream(argv[2], std::ios::binary)
      .read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
  const labelassemble::Volume volume =
      labelassemble::make_volume(shape, {1.0, 1.0, 1.0}, std::move(values));
  const std::int64_t edge = std::atoll(argv[10]);
  const labelassemble::Volume windows = labelassemble::make_volume(
      {2 * edge, 2 * edge, edge}, {1.0, 1.0, 1.0},
      std::vector<float>(static_cast<std::size_t>(4 * edge * edge * edge)));
  segmenter.probabilities(windows,
                          std::atoll(argv[6]));  // what the network needs is there from then on
  const long before = memory("VmRSS");
  std::ofstream("/proc/self/clear_refs") << "5";  // the most so far is forgotten
  for (int round = 0; round < std::atoi(argv[7]); ++round) {
    const auto start = std::chrono::steady_clock::now();
    const double processor = processor_seconds();
    const std::vector<float> answer = segmenter.probabilities(volume, std::atoll(argv[6]));
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    std::cout << wall.count() << " " << processor_seconds() - processor << std::endl;
    if (round == 0) {
      std::ofstream(argv[9], std::ios::binary)
          .write(reinterpret_cast<const char*>(answer.data()),
                 static_cast<std::streamsize>(answer.size() * sizeof(float)));
    }
  }
  std::cout << memory("VmHWM") - before << std::endl;
}
