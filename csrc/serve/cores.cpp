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
  double quota = 0;
  double period = 0;
  if (file >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

// Version 1: two files; a quota of -1 is none.
std::optional<double> old_quota_of(const std::string& folder) {
  const auto quota = number_in(folder + "/cpu.cfs_quota_us");
  const auto period = number_in(folder + "/cpu.cfs_period_us");
  if (quota && period && *quota > 0 && *period > 0) return *quota / *period;
  return std::nullopt;
}

// The least of a group's and of those that it lies in. In a container the path may be that of the
// host, and the group is mounted at the root: so every folder from the path up to the root counts.
double least_quota(const std::string& root, std::string path,
                   std::optional<double> (*quota_of)(const std::string& folder)) {
  double least = HUGE_VAL;
  for (;;) {
    if (const auto quota = quota_of(root + path)) least = std::min(least, *quota);
    if (path.empty()) return least;
    path.resize(std::min(path.rfind('/'), path.size() - 1));
  }
}

}  // namespace

// Lines "ID:CONTROLLERS:PATH"; version 2 names no controllers.
double cpu_quota(const std::string& groups, const std::string& root) {
  double least = HUGE_VAL;
  std::ifstream file(groups);
  for (std::string line; std::getline(file, line);) {
    std::istringstream parts(line);
    std::string id, controllers, path;
    if (!std::getline(parts, id, ':') || !std::getline(parts, controllers, ':')) continue;
    std::getline(parts, path);
    if (controllers.empty()) {
      least = std::min(least, least_quota(root, path, quota_of));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      // The folder may have the controllers in another order; then there is a link of one's name.
      for (const std::string& name : {controllers, std::string("cpu")}) {
        least = std::min(least, least_quota(root + "/" + name, path, old_quota_of));
      }
    }
  }
  return least;
}

int available_cores() {
  const double quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
  const double least = std::min<double>(by_affinity(), std::ceil(quota));
  return std::max(1, static_cast<int>(least));
}

}  // namespace labelassemble::serve
