// What a decoder asks its caller while it works: whether an image may take what it needs, and
// whether anybody still waits for it.
#pragma once

#include <cstddef>

namespace labelassemble {

class DecodeGuard {
 public:
  // Asked by every decoder on this thread from now on, until the guard is gone.
  DecodeGuard();
  virtual ~DecodeGuard();
  DecodeGuard(const DecodeGuard&) = delete;
  DecodeGuard& operator=(const DecodeGuard&) = delete;

  // Before anything is allocated for the pixels. `memory`: bytes that decoding takes at most.
  // `work`: bytes of the pixels as the file's format stores them, without compression, times the
  // passes over them (the scans of a JPEG are counted as they come). Throws Error, or a class of
  // it, to refuse.
  virtual void admit(std::size_t memory, std::size_t work) = 0;

  // Every few rows: throws Error, or a class of it, to give the image up.
  virtual void check() = 0;

 private:
  DecodeGuard* const outer_;
};

// What decoders call; without a guard on this thread they do nothing.
void admit_image(std::size_t memory, std::size_t work);
void check_interrupt();

// The same for the callbacks of C libraries, through which nothing may be thrown: true when the
// image is to be given up; `check_interrupt` then says why.
bool is_interrupted() noexcept;

}  // namespace labelassemble
