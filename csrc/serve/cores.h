// How many processors this process may use.
#pragma once

#include <string>

namespace labelassemble::serve {

// Of the machine's, those that affinity and the quota of the control group (a container's limit)
// leave; at least 1.
int available_cores();

// The processors that the quota leaves, 0.5 or more; infinity where there is none. `groups` is a
// file as /proc/self/cgroup, `root` where the groups are mounted.
double cpu_quota(const std::string& groups, const std::string& root);

}  // namespace labelassemble::serve
