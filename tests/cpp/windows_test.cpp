// Windows over a volume: how many they are is told without making them.
#include "windows.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

namespace {

using labelassemble::window_count;
using labelassemble::window_starts;

TEST(Windows, AreAsManyAsTheyAreCounted) {
  for (const double overlap : {0.0, 0.1, 0.25, 0.5, 0.75, 0.99}) {
    for (std::int64_t patch : {1, 2, 7, 8, 16, 31}) {
      for (std::int64_t size = 1; size < 100; ++size) {
        EXPECT_EQ(window_count(size, patch, overlap),
                  static_cast<std::int64_t>(window_starts(size, patch, overlap).size()))
            << size << " " << patch << " " << overlap;
      }
    }
  }
}

TEST(Windows, TakeNoMemoryWhereTheyAreCounted) {
  const auto most = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;  // KiB
  };
  const long before = most();
  EXPECT_EQ(window_count(std::int64_t{1} << 30, 96, 0.5), 22369621);
  EXPECT_LT(most() - before, 1024);
}

}  // namespace
