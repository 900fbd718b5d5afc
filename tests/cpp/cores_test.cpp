// The quota of processors of a container, in folders as the kernel mounts them.
#include "cores.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace {

using Files = std::map<std::string, std::string>;

double quota_with(const std::string& groups, const Files& files) {
  const auto root =
      std::filesystem::temp_directory_path() / ("cores_test_" + std::to_string(::getpid()));
  std::filesystem::remove_all(root);
  for (const auto& [name, text] : files) {
    std::filesystem::create_directories((root / name).parent_path());
    std::ofstream(root / name) << text;
  }
  std::filesystem::create_directories(root);
  std::ofstream(root / "groups") << groups;
  const double quota = labelassemble::serve::cpu_quota((root / "groups").string(), root.string());
  std::filesystem::remove_all(root);
  return quota;
}

TEST(CpuQuota, Version2) {
  EXPECT_EQ(quota_with("0::/\n", {{"cpu.max", "200000 100000\n"}}), 2);
  EXPECT_EQ(quota_with("0::/\n", {{"cpu.max", "50000 100000\n"}}), 0.5);
  EXPECT_EQ(quota_with("0::/\n", {{"cpu.max", "max 100000\n"}}), HUGE_VAL);
  EXPECT_EQ(quota_with("0::/\n", {{"cpu.max", "max\n"}}), HUGE_VAL);
  EXPECT_EQ(quota_with("0::/\n", {{"cpu.max", "none at all\n"}}), HUGE_VAL);
  EXPECT_EQ(quota_with("0::/\n", {}), HUGE_VAL);
}

TEST(CpuQuota, TheLeastOfNestedGroups) {
  const Files files{{"pods/cpu.max", "300000 100000\n"},
                    {"pods/one/cpu.max", "max 100000\n"},
                    {"pods/one/box/cpu.max", "400000 100000\n"},
                    {"pods/other/cpu.max", "100000 100000\n"}};
  EXPECT_EQ(quota_with("0::/pods/one/box\n", files), 3);
  EXPECT_EQ(quota_with("0::/pods/other\n", files), 1);
  EXPECT_EQ(quota_with("0::/elsewhere/of/the/host\n", {{"cpu.max", "150000 100000\n"}}), 1.5);
}

TEST(CpuQuota, Version1) {
  const Files files{{"cpu,cpuacct/box/cpu.cfs_quota_us", "250000\n"},
                    {"cpu,cpuacct/box/cpu.cfs_period_us", "100000\n"},
                    {"cpu,cpuacct/cpu.cfs_quota_us", "-1\n"},
                    {"cpu,cpuacct/cpu.cfs_period_us", "100000\n"}};
  const std::string other = "5:memory:/box\n2:cpuset:/box\n";
  EXPECT_EQ(quota_with(other + "4:cpu,cpuacct:/box\n", files), 2.5);
  EXPECT_EQ(quota_with(other + "4:cpu,cpuacct:/\n", files), HUGE_VAL);
  EXPECT_EQ(quota_with(other, files), HUGE_VAL);
}

TEST(CpuQuota, Version1WithControllersInAnotherOrder) {
  const Files files{{"cpu/box/cpu.cfs_quota_us", "250000\n"},
                    {"cpu/box/cpu.cfs_period_us", "100000\n"}};
  EXPECT_EQ(quota_with("4:cpuacct,cpu:/box\n0::/\n", files), 2.5);
}

}  // namespace
