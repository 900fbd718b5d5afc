#include "labelassemble/memory.h"

#include <cstdlib>  // defines __GLIBC__
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace labelassemble {

void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);  // nothing is mapped, and so unmapped, for itself
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_ARENA_MAX,
          1);  // the arenas of other threads are unmapped 64 MiB at a time all the same
#endif
}

}  // namespace labelassemble
