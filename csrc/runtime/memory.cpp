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
#endif
}

}  // namespace labelassemble
