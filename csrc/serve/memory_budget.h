// A bound on the bytes that all requests together hold.
#pragma once

#include <atomic>
#include <cstddef>
#include <utility>

namespace labelassemble::serve {

class MemoryBudget {
 public:
  explicit MemoryBudget(std::size_t limit) : limit_(limit) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // A part of the budget, given back on destruction.
  class Charge {
   public:
    Charge() = default;
    ~Charge() { release(); }
    Charge(Charge&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Charge& operator=(Charge&& other) noexcept {
      if (this != &other) {
        release();
        budget_ = std::exchange(other.budget_, nullptr);
        bytes_ = std::exchange(other.bytes_, 0);
      }
      return *this;
    }
    explicit operator bool() const { return budget_ != nullptr; }
    void release() {
      if (budget_ != nullptr) budget_->used_.fetch_sub(bytes_);
      budget_ = nullptr;
      bytes_ = 0;
    }

   private:
    friend class MemoryBudget;
    Charge(MemoryBudget* budget, std::size_t bytes) : budget_(budget), bytes_(bytes) {}
    MemoryBudget* budget_ = nullptr;
    std::size_t bytes_ = 0;
  };

  // An empty charge where the budget does not allow it. A request larger than the whole budget gets
  // it all when nobody else has any, or it would never be answered.
  Charge take(std::size_t bytes) {
    std::size_t used = used_.load();
    do {
      if (used != 0 && (bytes > limit_ || used > limit_ - bytes)) return {};
    } while (!used_.compare_exchange_weak(used, used + bytes));
    return Charge(this, bytes);
  }

  std::size_t used() const { return used_.load(); }

 private:
  const std::size_t limit_;
  std::atomic<std::size_t> used_{0};
};

}  // namespace labelassemble::serve
