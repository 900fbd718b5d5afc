// Blocks of memory out of one range of addresses.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

namespace labelassemble {

// Best fit: a block comes from the smallest free piece that is large enough, and what is given back
// joins its free neighbours. When all is given back there is one piece again, whatever came before.
class BlockPool {
 public:
  static constexpr std::size_t kAlignment = 64;

  // The range [start, start + size) is the caller's, aligned, and outlives the pool.
  BlockPool(std::byte* start, std::size_t size);

  // Null where no free piece is large enough.
  std::byte* take(std::size_t bytes);
  // False, and nothing done, where the block is not of this range.
  bool give_back(void* block);

  // Nobody takes or gives back in between: around fork(), or the child may inherit a mutex that a
  // thread holds which it has not.
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  void add_free(std::byte* start, std::size_t size);
  void remove_free(std::byte* start, std::size_t size);

  std::byte* const start_;
  std::byte* const end_;
  std::mutex mutex_;
  std::map<std::byte*, std::size_t> free_;
  std::set<std::pair<std::size_t, std::byte*>> free_by_size_;  // of two alike, the lower address
  std::unordered_map<std::byte*, std::size_t> used_;
};

}  // namespace labelassemble
