#include "cores.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

namespace labelassemble::serve {
namespace {

constexpr const char* kRoot = "/sys/fs/cgroup";

int by_affinity() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return CPU_COUNT(&allowed);
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

std::optional<double> number_in(const std::string& path) {
  std::ifstream file(path);
  double value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// Version 2: "200000 100000", or "max 100000".
std::optional<double> quota_of(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (file >> quota >> period && quota != "max" && period > 0) return std::stod(quota) / period;
  return std::nullopt;
}

// Version 1: two files; a quota of -1 is none.
std::optional<double> old_quota_of(const std::string& folder) {
  const auto quota = number_in(folder + "/cpu.cfs_quota_us");
  const auto period = number_in(folder + "/cpu.cfs_period_us");
  if (quota && period && *quota > 0 && *period > 0) return *quota / *period;
  return std::nullopt;
}

// The group of this process: a line "ID:CONTROLLERS:PATH" of /proc/self/cgroup; version 2 names no
// controllers. In a container the path may be that of the host, and the group is mounted at the
// root: so every folder from the path up to the root is looked at.
double by_quota() {
  double least = HUGE_VAL;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    std::istringstream parts(line);
    std::string id, controllers, path;
    if (!std::getline(parts, id, ':') || !std::getline(parts, controllers, ':')) continue;
    std::getline(parts, path);
    const bool second = controllers.empty();
    if (!second && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    const std::string root = second ? kRoot : std::string(kRoot) + "/" + controllers;
    for (;;) {
      const auto quota = second ? quota_of(root + path) : old_quota_of(root + path);
      if (quota) least = std::min(least, *quota);
      if (path.empty()) break;
      path.resize(std::min(path.rfind('/'), path.size()));
      if (path == "/") path.clear();
    }
  }
  return least;
}

}  // namespace

int available_cores() {
  const double least = std::min<double>(by_affinity(), std::ceil(by_quota()));
  return std::max(1, static_cast<int>(least));
}

}  // namespace labelassemble::serve
