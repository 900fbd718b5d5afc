// Forms batches of the requests that wait for one model, and runs them on a thread of its own.
//
// A batch starts as soon as the model is free. A short window (or a sixteenth of what the last
// batch took, where that is longer) is waited for more requests only while more are likely: as many
// as were under way when the last batch ended, since a client that got its answer then sends its
// next request now. So a lone client never waits, and sixteen clients in step share one batch
// instead of taking turns as one and fifteen.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace labelassemble::serve {

using Clock = std::chrono::steady_clock;

// One request in the queue.
class Job {
 public:
  virtual ~Job() = default;

  // Ends the job without an answer; called at most once, from the batcher's thread.
  virtual void fail(int status, const std::string& message) = 0;

  std::int64_t size = 1;  // images
  Clock::time_point arrived = Clock::now();
  Clock::time_point deadline = Clock::time_point::max();
  std::shared_ptr<const std::atomic<bool>> gone;  // the client has left
};

class Batcher {
 public:
  struct Limits {
    std::int64_t max_batch = 1;           // images; a job has at most as many
    std::chrono::microseconds window{0};  // longest wait for more
    std::size_t max_queue = 256;          // jobs that wait
  };
  using Batch = std::vector<std::unique_ptr<Job>>;
  // Answers every job of the batch; must not throw. Calls `computed` before the first answer
  // leaves, since a client may send its next request before this returns, and would be counted
  // twice.
  using Run = std::function<void(Batch&, const std::function<void()>& computed)>;

  Batcher(Limits limits, Run run);
  ~Batcher();  // finishes what is queued
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  // Throws HttpError 503: the queue is full, or closed.
  void submit(std::unique_ptr<Job> job);

  // Takes no more jobs, finishes those that it has, and returns.
  void close();

 private:
  void work();
  void drop_lost(std::vector<std::unique_ptr<Job>>& lost, Clock::time_point now);
  void wait_for_more(std::unique_lock<std::mutex>& lock);
  Batch take_batch();

  const Limits limits_;
  const Run run_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Job>> queue_;
  std::int64_t queued_images_ = 0;
  std::int64_t expected_images_ = 0;  // under way when the last batch ended
  Clock::time_point last_end_{};
  Clock::duration last_run_{};  // how long the last batch took, for Retry-After
  bool closing_ = false;
  std::mutex close_mutex_;
  std::thread thread_;
};

}  // namespace labelassemble::serve
