#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <labelassemble/memory.h>
#include <sys/resource.h>

#include <cstdint>

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

  // Tensors from before are whole, can be copied, and are freed as they were made.
  EXPECT_EQ(large.clone().sum().item<std::int64_t>(), 3 * kBytes);
  EXPECT_EQ(small.clone().sum().item<std::int64_t>(), 48);
}

}  // namespace
