#include "labelassemble/decode_guard.h"

namespace labelassemble {
namespace {

// Of the thread, since the callbacks of the C libraries have no other way to it.
thread_local DecodeGuard* current = nullptr;

}  // namespace

DecodeGuard::DecodeGuard() : outer_(current) { current = this; }
DecodeGuard::~DecodeGuard() { current = outer_; }

void admit_image(std::size_t memory, std::size_t work) {
  if (current != nullptr) current->admit(memory, work);
}

void check_interrupt() {
  if (current != nullptr) current->check();
}

bool is_interrupted() noexcept {
  try {
    check_interrupt();
    return false;
  } catch (...) {
    return true;
  }
}

}  // namespace labelassemble
