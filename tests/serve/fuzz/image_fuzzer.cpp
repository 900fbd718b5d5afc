// Image files as a client may send them: each is decoded, or refused by labelassemble::Error. What
// decoding takes of the heap must have been admitted before.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"
#include "labelassemble/image.h"

// As clang's sanitizer/allocator_interface.h has them; gcc's library has no such header.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void*,
                                                                           std::size_t),
                                                         void (*freed)(const volatile void*));
extern "C" std::size_t __sanitizer_get_allocated_size(const volatile void*);

namespace {

constexpr std::size_t kMostMemory = std::size_t{8} << 20;
constexpr std::size_t kMostWork = std::size_t{2} << 20;
// Tables of the libraries, of a size that no file chooses.
constexpr std::size_t kTables = std::size_t{512} << 10;

thread_local bool counting = false;
thread_local std::int64_t held = 0;
thread_local std::int64_t most = 0;

void allocated(const volatile void*, std::size_t size) {
  if (!counting) return;
  held += static_cast<std::int64_t>(size);
  most = std::max(most, held);
}

void freed(const volatile void* block) {
  if (!counting || block == nullptr) return;
  held -= static_cast<std::int64_t>(__sanitizer_get_allocated_size(block));
}

class Guard final : public labelassemble::DecodeGuard {
 public:
  void admit(std::size_t memory, std::size_t work) override {
    if (memory > kMostMemory || work > kMostWork) throw labelassemble::Error("too large");
    admitted += memory;
  }
  void check() override {}
  std::size_t admitted = 0;
};

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int installed = __sanitizer_install_malloc_and_free_hooks(allocated, freed);
  require(installed > 0);
  // A copy on the heap, so that a read beyond it is seen.
  const std::vector<std::uint8_t> file(data, data + size);
  held = most = 0;
  Guard guard;
  counting = true;
  try {
    const labelassemble::Image image = labelassemble::decode_image(file, "image");
    counting = false;
    require(image.channels == 1 || image.channels == 3);
    require(image.width > 0 && image.height > 0);
    require(image.pixels.size() ==
            static_cast<std::size_t>(image.channels * image.height * image.width));
  } catch (const labelassemble::Error& error) {
    counting = false;
    require(std::string(error.what()).find('\n') == std::string::npos);
  }
  require(most <= static_cast<std::int64_t>(guard.admitted + 2 * size + kTables));
  return 0;
}
