#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <labelassemble/memory.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

constexpr std::int64_t kBytes = std::int64_t{48} << 20;  // more than malloc ever keeps by itself

// Page faults of writing a tensor of kBytes that is freed at once.
long faults_of_a_tensor() {
  rusage before{};
  rusage after{};
  getrusage(RUSAGE_SELF, &before);
  at::empty({kBytes}, at::kByte).fill_(1);
  getrusage(RUSAGE_SELF, &after);
  return after.ru_minflt - before.ru_minflt;
}

// One test, since what it changes is the whole process's.
TEST(Memory, OfTensorsIsKept) {
  const at::Tensor large = at::full({kBytes}, 3, at::kByte);
  const at::Tensor small = at::full({16}, 3, at::kByte);
  faults_of_a_tensor();
  ASSERT_GT(faults_of_a_tensor(), 0);  // the system's again and again

  labelassemble::keep_freed_memory();
  faults_of_a_tensor();
  EXPECT_EQ(faults_of_a_tensor(), 0);
  labelassemble::keep_freed_memory();
  EXPECT_EQ(faults_of_a_tensor(), 0);

  // A process that is forked while other threads take and give back can do so too.
  {
    std::atomic<bool> stop{false};
    std::vector<std::jthread> busy;
    for (int i = 0; i < 3; ++i) {
      busy.emplace_back([&stop] {
        while (!stop) at::empty({1 << 20}, at::kByte);
      });
    }
    for (int i = 0; i < 300; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        alarm(10);  // ends a child that waits for ever
        at::empty({1 << 20}, at::kByte);
        _exit(0);
      }
      int status = 0;
      waitpid(child, &status, 0);
      EXPECT_EQ(status, 0);
      if (status != 0) break;
    }
    stop = true;
  }

  // Tensors from before are whole, can be copied, and are freed as they were made.
  EXPECT_EQ(large.clone().sum().item<std::int64_t>(), 3 * kBytes);
  EXPECT_EQ(small.clone().sum().item<std::int64_t>(), 48);
}

}  // namespace
