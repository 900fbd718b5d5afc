// A bound on the bytes that all requests together hold: each takes its share before it allocates.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "error.h"

namespace labelassemble::serve {

class MemoryBudget {
 public:
  explicit MemoryBudget(std::size_t limit) : limit_(limit) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // A part of the budget, given back on destruction.
  class Charge {
   public:
    explicit Charge(MemoryBudget& budget) : budget_(&budget) {}
    ~Charge() { release(); }
    Charge(Charge&& other) noexcept
        : budget_(other.budget_), bytes_(std::exchange(other.bytes_, 0)) {}
    Charge& operator=(Charge&& other) noexcept {
      if (this != &other) {
        release();
        budget_ = other.budget_;
        bytes_ = std::exchange(other.bytes_, 0);
      }
      return *this;
    }

    // False, and nothing is taken, where the budget does not allow it.
    bool try_add(std::size_t bytes) {
      if (!budget_->take(bytes)) return false;
      bytes_ += bytes;
      return true;
    }
    // Throws HttpError: 413 for more than the whole budget, 503 for more than is free now.
    void add(std::size_t bytes) {
      if (try_add(bytes)) return;
      if (bytes > budget_->limit_ || bytes_ > budget_->limit_ - bytes) {
        throw HttpError(413, "the request needs more memory than the " +
                                 std::to_string(budget_->limit_) +
                                 " bytes that all requests may hold (--max-memory)");
      }
      throw HttpError(503, "no memory is free for this request", 1);
    }
    void subtract(std::size_t bytes) {
      bytes = std::min(bytes, bytes_);
      bytes_ -= bytes;
      budget_->used_.fetch_sub(bytes);
    }
    void release() { subtract(bytes_); }
    std::size_t bytes() const { return bytes_; }

   private:
    MemoryBudget* budget_;
    std::size_t bytes_ = 0;
  };

  std::size_t used() const { return used_.load(); }
  std::size_t limit() const { return limit_; }
  // Bytes taken since the start, given back or not.
  std::size_t taken() const { return taken_.load(); }

 private:
  bool take(std::size_t bytes) {
    std::size_t used = used_.load();
    do {
      if (bytes > limit_ || used > limit_ - bytes) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes));
    taken_.fetch_add(bytes);
    return true;
  }

  const std::size_t limit_;
  std::atomic<std::size_t> used_{0};
  std::atomic<std::size_t> taken_{0};
};

// A part of the budget that lasts until an answer is sent.
using Held = std::shared_ptr<const MemoryBudget::Charge>;

// Takes a part of the budget for one function's work.
class TemporaryCharge {
 public:
  TemporaryCharge(MemoryBudget::Charge& charge, std::size_t bytes)
      : charge_(charge), bytes_(bytes) {
    charge_.add(bytes);
  }
  ~TemporaryCharge() { charge_.subtract(bytes_); }
  TemporaryCharge(const TemporaryCharge&) = delete;
  TemporaryCharge& operator=(const TemporaryCharge&) = delete;

 private:
  MemoryBudget::Charge& charge_;
  const std::size_t bytes_;
};

// Makes room for `more` elements, and takes memory for it before: growing doubles the room, and
// while it grows the old and the new one are there.
template <typename T>
void make_room(std::vector<T>& values, std::size_t more, MemoryBudget::Charge& charge) {
  const std::size_t needed = values.size() + more;
  if (needed <= values.capacity()) return;
  constexpr std::size_t kFirst = 4096 / sizeof(T);
  const std::size_t room = std::max({needed, 2 * values.capacity(), kFirst});
  const std::size_t old = values.capacity();
  charge.add(room * sizeof(T));
  values.reserve(room);
  charge.subtract(old * sizeof(T));
}

// Frees a vector that `make_room` grew.
template <typename T>
void free_room(std::vector<T>& values, MemoryBudget::Charge& charge) {
  charge.subtract(values.capacity() * sizeof(T));
  std::vector<T>().swap(values);
}

}  // namespace labelassemble::serve
