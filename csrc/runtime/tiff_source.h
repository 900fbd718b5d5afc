// libtiff's view of a file that is in memory.
#pragma once

#include <tiffio.h>

#include <cstdint>

#include "decoders.h"

namespace labelassemble {

struct TiffSource {
  Bytes bytes;
  std::uint64_t at = 0;
};

// nullptr where libtiff refuses the file. `source` must outlive what is returned.
TIFF* open_tiff(TiffSource& source);

}  // namespace labelassemble
