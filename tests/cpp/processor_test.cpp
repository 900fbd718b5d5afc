#include "processor.h"

#include <gtest/gtest.h>

namespace {

using labelassemble::missing_capability;

TEST(Processor, WhatItHasMayBeAskedFor) {
  for (const char* asked : {"", "default", "avx2", "avx512", "something else"}) {
    EXPECT_EQ(missing_capability(asked, true, true), "") << asked;
  }
  EXPECT_EQ(missing_capability("avx2", true, false), "");
  EXPECT_EQ(missing_capability("default", false, false), "");
}

TEST(Processor, WhatItLacksIsRefusedWithWhatItHas) {
  EXPECT_EQ(
      missing_capability("avx512", true, false),
      "the environment variable ATEN_CPU_CAPABILITY asks for avx512, which this processor does "
      "not have (it has avx2): unset the variable");
  EXPECT_NE(missing_capability("avx512_vnni", true, false), "");
  EXPECT_NE(missing_capability("avx2", false, false).find("neither avx2 nor avx512"),
            std::string::npos);
}

}  // namespace
