#include "block_pool.h"

#include <functional>
#include <iterator>

namespace labelassemble {

BlockPool::BlockPool(std::byte* start, std::size_t size) : start_(start), end_(start + size) {
  add_free(start, size);
}

std::byte* BlockPool::take(std::size_t bytes) {
  if (bytes > static_cast<std::size_t>(end_ - start_)) return nullptr;
  const std::size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const std::lock_guard lock(mutex_);
  const auto found = free_by_size_.lower_bound({size, nullptr});
  if (found == free_by_size_.end()) return nullptr;
  const auto [available, block] = *found;
  remove_free(block, available);
  if (available > size) add_free(block + size, available - size);
  used_.emplace(block, size);
  return block;
}

bool BlockPool::give_back(void* block) {
  const std::less<> before;
  auto* start = static_cast<std::byte*>(block);
  if (before(start, start_) || !before(start, end_)) return false;
  const std::lock_guard lock(mutex_);
  const auto used = used_.find(start);
  std::size_t size = used->second;
  used_.erase(used);
  auto next = free_.lower_bound(start);
  if (next != free_.end() && next->first == start + size) {
    const auto [neighbour, more] = *next++;
    remove_free(neighbour, more);
    size += more;
  }
  if (next != free_.begin()) {
    const auto [neighbour, more] = *std::prev(next);
    if (neighbour + more == start) {
      remove_free(neighbour, more);
      start = neighbour;
      size += more;
    }
  }
  add_free(start, size);
  return true;
}

void BlockPool::add_free(std::byte* start, std::size_t size) {
  free_.emplace(start, size);
  free_by_size_.emplace(size, start);
}

void BlockPool::remove_free(std::byte* start, std::size_t size) {
  free_.erase(start);
  free_by_size_.erase({size, start});
}

}  // namespace labelassemble
