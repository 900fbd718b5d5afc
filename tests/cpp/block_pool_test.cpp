#include "block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace {

using labelassemble::BlockPool;

constexpr std::size_t kSize = std::size_t{1} << 20;

struct Memory {
  Memory() : bytes(static_cast<std::byte*>(::operator new(kSize, kAlignment))) {}
  ~Memory() { ::operator delete(bytes, kAlignment); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  static constexpr std::align_val_t kAlignment{BlockPool::kAlignment};
  std::byte* const bytes;
};

class BlockPoolTest : public testing::Test {
 protected:
  Memory memory_;
  BlockPool pool_{memory_.bytes, kSize};
};

TEST_F(BlockPoolTest, TakesTheWholeRangeAndNoMore) {
  EXPECT_EQ(pool_.take(kSize + 1), nullptr);
  EXPECT_EQ(pool_.take(SIZE_MAX), nullptr);
  EXPECT_EQ(pool_.take(kSize), memory_.bytes);
  EXPECT_EQ(pool_.take(1), nullptr);
  EXPECT_TRUE(pool_.give_back(memory_.bytes));
  EXPECT_EQ(pool_.take(kSize), memory_.bytes);
}

TEST_F(BlockPoolTest, TakesTheSmallestPieceThatIsLargeEnough) {
  std::byte* large = pool_.take(4096);
  pool_.take(64);
  std::byte* small = pool_.take(1024);
  pool_.take(64);
  pool_.give_back(large);
  pool_.give_back(small);
  EXPECT_EQ(pool_.take(1000), small);
  EXPECT_EQ(pool_.take(1025), large);
}

TEST_F(BlockPoolTest, JoinsNeighboursInWhateverOrderTheyComeBack) {
  std::vector<int> order{0, 1, 2, 3};
  do {
    std::vector<std::byte*> blocks;
    for (int i = 0; i < 4; ++i) blocks.push_back(pool_.take(kSize / 4));
    for (const int i : order) EXPECT_TRUE(pool_.give_back(blocks[i]));
    ASSERT_EQ(pool_.take(kSize), memory_.bytes);
    pool_.give_back(memory_.bytes);
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(BlockPoolTest, RefusesBlocksOfOthers) {
  std::byte other{};
  EXPECT_FALSE(pool_.give_back(&other));
  EXPECT_FALSE(pool_.give_back(memory_.bytes + kSize));
}

TEST_F(BlockPoolTest, BlocksOfManyThreadsAreAlignedAndApart) {
  const auto work = [this](unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::pair<std::byte*, std::size_t>> own;
    const auto mark = static_cast<std::byte>(seed);
    const auto release = [&](std::size_t i) {
      const auto [block, size] = own[i];
      EXPECT_TRUE(std::all_of(block, block + size, [&](std::byte b) { return b == mark; }));
      EXPECT_TRUE(pool_.give_back(block));
      own.erase(own.begin() + static_cast<std::ptrdiff_t>(i));
    };
    for (int step = 0; step < 3000; ++step) {
      const std::size_t size = 1 + random() % 20000;
      if (std::byte* block = pool_.take(size)) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % BlockPool::kAlignment, 0U);
        std::memset(block, static_cast<int>(seed), size);
        own.emplace_back(block, size);
      }
      if (!own.empty() && random() % 2 == 0) release(random() % own.size());
    }
    while (!own.empty()) release(own.size() - 1);
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned seed = 1; seed <= 4; ++seed) threads.emplace_back(work, seed);
  }
  EXPECT_EQ(pool_.take(kSize), memory_.bytes);  // all is one piece again
}

}  // namespace
