#include "races.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulator.h"

namespace cuda_on_cpu::races {
namespace {

// An access by a thread: its place in the order that barriers and fences make.
struct Access {
  std::int32_t launch = 0;  // 0: none
  std::int32_t block = 0;
  std::uint16_t interval = 0;
  std::uint16_t thread = 0;
  std::uint16_t fences = 0;
  std::uint16_t bytes = 0;  // of the word, a bit each; of reads: 0x100 where several threads read
};
constexpr std::uint16_t kSeveral = 0x100;

// The last write of 4 bytes and the last read.
struct Word {
  Access write;
  Access read;
};
constexpr std::size_t kWord = 4;
constexpr std::size_t kPage = 4096;
using Page = std::array<Word, kPage / kWord>;
constexpr std::size_t kMaxPages = 4000;  // 130 MB

std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages;
std::uintptr_t last_number = 0;
Page* last_page = nullptr;

Word& word_of(std::uintptr_t address) {
  const std::uintptr_t number = address / kPage;
  if (last_page == nullptr || number != last_number) {
    auto& page = pages[number];
    if (page == nullptr) page = std::make_unique<Page>();
    last_page = page.get();
    last_number = number;
  }
  return (*last_page)[address % kPage / kWord];
}

// Each block under way has its own shared memory: addresses that nothing else has.
std::uintptr_t shared_of_slot(unsigned slot) { return (1 + std::uintptr_t{slot}) << 24; }

// What a block has published by an atomic after a fence: all that its thread did before the fence,
// and all threads of it before the barrier before that.
struct Published {
  std::size_t number;  // in the order of the atomics
  Access fence;
};
// The atomics on one counter.
struct Counter {
  std::size_t count = 0;
  std::unordered_map<std::int32_t, Published> by_block;
};
std::unordered_map<const void*, Counter> counters;

// What has been read of a counter: its first `count` atomics.
struct Known {
  const Counter* counter = nullptr;
  std::size_t count = 0;
};
// Of a thread: read and, after a fence, acquired; of a block: after a barrier.
struct KnownOfBlock {
  std::unordered_map<unsigned, Known> read;
  std::unordered_map<unsigned, Known> acquired;
  Known all_read;
  Known all_acquired;
};
std::vector<KnownOfBlock> known_of_blocks;

KnownOfBlock& known_of(unsigned slot) {
  if (known_of_blocks.size() <= slot) known_of_blocks.resize(slot + 1);
  return known_of_blocks[slot];
}

bool covers(const Known& known, const Access& before) {
  if (known.counter == nullptr) return false;
  const auto found = known.counter->by_block.find(before.block);
  if (found == known.counter->by_block.end() || found->second.number >= known.count) return false;
  const Access& fence = found->second.fence;
  return before.interval < fence.interval ||
         (before.thread == fence.thread && before.fences < fence.fences);
}

bool comes_before(const Access& before, const Position& now) {
  if (before.launch != now.launch) return true;
  if (before.block == now.block) {
    const bool same_thread = before.thread == now.thread && (before.bytes & kSeveral) == 0;
    return same_thread || before.interval < now.interval;
  }
  if ((before.bytes & kSeveral) != 0) return false;
  const KnownOfBlock& known = known_of(now.slot);
  const auto own = known.acquired.find(now.thread);
  return covers(known.all_acquired, before) ||
         (own != known.acquired.end() && covers(own->second, before));
}

std::string name_of(const Access& access) {
  return "block " + std::to_string(access.block) + " thread " + std::to_string(access.thread);
}

void check_word(std::uintptr_t address, std::uint16_t bytes, bool writes, bool is_shared,
                const Position& now) {
  Word& word = word_of(address);
  const Access self{
      static_cast<std::int32_t>(now.launch),    static_cast<std::int32_t>(now.block),
      static_cast<std::uint16_t>(now.interval), static_cast<std::uint16_t>(now.thread),
      static_cast<std::uint16_t>(now.fences),   bytes};
  const auto race = [&](const char* what, const Access& before) {
    report(std::string(what) + (is_shared ? " in shared memory: " : " in global memory: ") +
           name_of(before) + " and " + name_of(self));
  };
  const bool overlaps = (word.write.bytes & bytes) != 0;
  if (is_shared && !writes && !overlaps) race("read before it is written", self);
  if (overlaps && !comes_before(word.write, now))
    race(writes ? "two writes without order" : "write and read without order", word.write);
  if (writes) {
    if ((word.read.bytes & bytes) != 0 && !comes_before(word.read, now))
      race("read and write without order", word.read);
    // Bytes of this thread beside each other are one write.
    Access& write = word.write;
    const bool again = write.launch == self.launch && write.block == self.block &&
                       write.thread == self.thread && write.interval == self.interval &&
                       write.fences == self.fences;
    const auto before = again ? write.bytes : std::uint16_t{0};
    write = self;
    write.bytes = static_cast<std::uint16_t>(write.bytes | before);
    return;
  }
  Access& read = word.read;
  // Of reads in a block those after its last barrier count.
  const bool several =
      read.launch == self.launch && (read.bytes & bytes) != 0 &&
      (read.block != self.block || (read.interval == self.interval &&
                                    (read.thread != self.thread || (read.bytes & kSeveral) != 0)));
  read = self;
  if (several) read.bytes |= kSeveral;
}

void check(const void* where, std::size_t size, bool writes) {
  const Position& now = position();
  auto address = reinterpret_cast<std::uintptr_t>(where);
  if (now.block < 0 || on_a_stack(address)) return;
  const bool is_shared = address - shared_begin() < shared_size();
  if (is_shared) address = address - shared_begin() + shared_of_slot(now.slot);
  while (size > 0) {
    const std::size_t first = address % kWord;
    const std::size_t here = std::min(size, kWord - first);
    check_word(address, static_cast<std::uint16_t>(((1u << here) - 1) << first), writes, is_shared,
               now);
    address += here;
    size -= here;
  }
}

}  // namespace

void start_launch(std::int64_t /*launch*/) {
  if (pages.size() > kMaxPages) {
    pages.clear();
    last_page = nullptr;
  }
  counters.clear();
}

void start_block(unsigned slot) {
  known_of(slot) = {};
  for (std::uintptr_t at = 0; at < shared_size(); at += kPage)
    pages.erase((shared_of_slot(slot) + at) / kPage);
  last_page = nullptr;
}

void atomic(const void* place) {
  const Position& now = position();
  if (now.block < 0) return;
  Counter& counter = counters[place];
  const std::size_t number = counter.count++;
  known_of(now.slot).read[now.thread] = {&counter, number};
  if (now.fences == 0) return;  // nothing is published
  counter.by_block[static_cast<std::int32_t>(now.block)] = {
      number,
      {static_cast<std::int32_t>(now.launch), static_cast<std::int32_t>(now.block),
       static_cast<std::uint16_t>(now.interval), static_cast<std::uint16_t>(now.thread),
       static_cast<std::uint16_t>(now.fences), 0}};
}

void pass_fence() {
  const Position& now = position();
  KnownOfBlock& known = known_of(now.slot);
  // What another thread of the block read before the last barrier counts too.
  if (const auto own = known.read.find(now.thread); own != known.read.end())
    known.acquired[now.thread] = own->second;
  else if (known.all_read.counter != nullptr)
    known.acquired[now.thread] = known.all_read;
}

void pass_barrier(unsigned slot) {
  KnownOfBlock& known = known_of(slot);
  for (const auto& [thread, acquired] : known.acquired) known.all_acquired = acquired;
  for (const auto& [thread, read] : known.read) known.all_read = read;
}

}  // namespace cuda_on_cpu::races

// The calls that -fsanitize=thread makes of each access.
#define ACCESS(size)                                                                               \
  void __tsan_read##size(void* where) { cuda_on_cpu::races::check(where, size, false); }           \
  void __tsan_write##size(void* where) { cuda_on_cpu::races::check(where, size, true); }           \
  void __tsan_unaligned_read##size(void* where) { cuda_on_cpu::races::check(where, size, false); } \
  void __tsan_unaligned_write##size(void* where) { cuda_on_cpu::races::check(where, size, true); } \
  /* volatile: as a relaxed atomic */                                                              \
  void __tsan_volatile_read##size(void* /*where*/) {}                                              \
  void __tsan_volatile_write##size(void* /*where*/) {}

extern "C" {
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void* where, unsigned long size) {
  cuda_on_cpu::races::check(where, size, false);
}
void __tsan_write_range(void* where, unsigned long size) {
  cuda_on_cpu::races::check(where, size, true);
}
void __tsan_init() {}
void __tsan_func_entry(void* /*where*/) {}
void __tsan_func_exit() {}
}
