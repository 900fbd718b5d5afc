// How many processors this process may use.
#pragma once

namespace labelassemble::serve {

// Of the machine's, those that affinity and the quota of the control group (a container's limit)
// leave; at least 1.
int available_cores();

}  // namespace labelassemble::serve
