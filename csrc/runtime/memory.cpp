#include "labelassemble/memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <mutex>

#include "block_pool.h"

// Learnt, on two cores, DenseNet121 at 224x224 (benchmarks/cpp/time_model.cpp, three to seven
// rounds in turn): malloc told to keep everything (M_MMAP_MAX 0, M_TRIM_THRESHOLD 1 GiB,
// M_ARENA_MAX 1) is as quick as this, but lets small blocks of a server's requests split the holes
// that activations leave, so that the process grows by an activation now and then. Neither huge
// pages (madvise) nor an odd number of cache lines between blocks made a difference.

namespace labelassemble {
namespace {

// Below this malloc keeps memory by itself.
constexpr std::size_t kSmallest = std::size_t{64} << 10;

BlockPool* pool = nullptr;  // of the process, never destroyed: tensors may outlive main

void give_back(void* block) {
  if (!pool->give_back(block)) c10::free_cpu(block);
}

class KeepingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* block = bytes < kSmallest ? nullptr : pool->take(bytes);
    if (block == nullptr) block = c10::alloc_cpu(bytes);
    return {block, block, &give_back, at::Device(at::kCPU)};
  }
  // Also serves blocks of the allocator before, which it frees as that would.
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* destination, const void* source, std::size_t bytes) const override {
    default_copy_data(destination, source, bytes);
  }
};

// As many addresses as the machine has memory; pages are real only once they are written.
BlockPool* reserve() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return nullptr;
  const std::size_t size = static_cast<std::size_t>(pages) * static_cast<std::size_t>(page);
  void* range = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return nullptr;
  return new BlockPool(static_cast<std::byte*>(range), size);
}

}  // namespace

void keep_freed_memory() {
#ifndef __SANITIZE_ADDRESS__  // which sees the ends of the blocks of malloc alone
  static std::once_flag once;
  std::call_once(once, [] {
    pool = reserve();
    if (pool == nullptr) return;
    const auto unlock = [] { pool->unlock(); };
    pthread_atfork([] { pool->lock(); }, unlock, unlock);
    c10::SetCPUAllocator(new KeepingAllocator);
  });
#endif
}

}  // namespace labelassemble

extern "C" void labelassemble_keep_freed_memory() { labelassemble::keep_freed_memory(); }
