#include "batcher.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using labelassemble::serve::Batcher;
using labelassemble::serve::Job;
using std::chrono::milliseconds;

class Nothing final : public Job {
  void fail(int, const std::string&) override {}
};

// A batcher whose batches take what the test says; it remembers their sizes.
class Batches {
 public:
  explicit Batches(std::vector<milliseconds> take)
      : take_(std::move(take)),
        batcher_({.max_batch = 16, .window = milliseconds(1)},
                 [this](Batcher::Batch& batch, const auto& computed) { run(batch, computed); }) {}

  void submit() { batcher_.submit(std::make_unique<Nothing>()); }

  // One alone, then two that came meanwhile: from then on two are expected.
  void run_one_then_two() {
    submit();
    wait_begun(1);
    submit();
    submit();
    wait_ended(2);
  }

  // Until so many batches have begun, or ended.
  void wait_begun(std::size_t count) { wait(begun_, count); }
  void wait_ended(std::size_t count) { wait(ended_, count); }

  std::vector<std::size_t> sizes() {
    batcher_.close();
    return begun_;
  }

 private:
  void run(Batcher::Batch& batch, const std::function<void()>& computed) {
    milliseconds time{0};
    {
      const std::lock_guard lock(mutex_);
      if (begun_.size() < take_.size()) time = take_[begun_.size()];
      begun_.push_back(batch.size());
    }
    changed_.notify_all();
    std::this_thread::sleep_for(time);
    computed();
    {
      const std::lock_guard lock(mutex_);
      ended_.push_back(batch.size());
    }
    changed_.notify_all();
  }

  void wait(const std::vector<std::size_t>& batches, std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return batches.size() >= count; });
  }

  const std::vector<milliseconds> take_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::size_t> begun_;
  std::vector<std::size_t> ended_;
  Batcher batcher_;
};

// A sixteenth of what the last batch took is waited, here 200 ms, though the window is 1 ms.
TEST(Batcher, WaitsLongerWhereBatchesTakeLong) {
  Batches batches({milliseconds(50), milliseconds(3200), milliseconds(0)});
  batches.run_one_then_two();
  batches.submit();
  std::this_thread::sleep_for(milliseconds(20));
  batches.submit();
  batches.wait_ended(3);
  EXPECT_EQ(batches.sizes(), (std::vector<std::size_t>{1, 2, 2}));
}

TEST(Batcher, WaitsNoLongerThanTheWindowWhereBatchesAreShort) {
  Batches batches({milliseconds(100), milliseconds(0)});
  batches.run_one_then_two();
  batches.submit();
  batches.wait_ended(3);  // does not wait for the other, which never comes
  batches.submit();
  batches.wait_ended(4);
  EXPECT_EQ(batches.sizes(), (std::vector<std::size_t>{1, 2, 1, 1}));
}

}  // namespace
