#include "batcher.h"

#include <algorithm>
#include <utility>

#include "error.h"

namespace labelassemble::serve {
namespace {

// Clients that were heard this many windows ago are no longer expected.
constexpr int kWindowsUntilStale = 20;

// Where a batch takes long, more of its time may be waited than the window. With DenseNet121 at
// 224x224 on two cores, sixteen clients and the window of 2 ms alone, batches of 10 and 6 took
// turns; with this the mean is 14.9 (benchmarks/results/serve_cpu.csv).
constexpr int kShareOfRun = 16;

}  // namespace

Batcher::Batcher(Limits limits, Run run)
    : limits_(limits), run_(std::move(run)), thread_([this] { work(); }) {}

Batcher::~Batcher() { close(); }

void Batcher::submit(std::unique_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    if (closing_) throw HttpError(503, "the model is being unloaded");
    if (queue_.size() >= limits_.max_queue) {
      const double batches = static_cast<double>(queued_images_) / limits_.max_batch;
      const double seconds = std::chrono::duration<double>(last_run_).count() * batches;
      throw HttpError(503, "the queue is full: " + std::to_string(queue_.size()) + " requests wait",
                      std::clamp(static_cast<int>(seconds + 1), 1, 60));
    }
    queued_images_ += job->size;
    queue_.push_back(std::move(job));
  }
  changed_.notify_one();
}

void Batcher::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  const std::lock_guard lock(close_mutex_);  // two may close at the same time
  if (thread_.joinable()) thread_.join();
}

void Batcher::drop_lost(std::vector<std::unique_ptr<Job>>& lost, Clock::time_point now) {
  const auto keep = std::stable_partition(queue_.begin(), queue_.end(), [&](const auto& job) {
    return now < job->deadline && !(job->gone && job->gone->load());
  });
  for (auto job = keep; job != queue_.end(); ++job) {
    queued_images_ -= (*job)->size;
    lost.push_back(std::move(*job));
  }
  queue_.erase(keep, queue_.end());
}

void Batcher::wait_for_more(std::unique_lock<std::mutex>& lock) {
  if (limits_.window.count() == 0) return;
  const Clock::time_point now = Clock::now();
  const Clock::duration window = std::max<Clock::duration>(limits_.window, last_run_ / kShareOfRun);
  if (now - last_end_ > kWindowsUntilStale * window) return;
  const std::int64_t target = std::min(limits_.max_batch, expected_images_);
  Clock::time_point end = now + window;
  for (const auto& job : queue_) end = std::min(end, job->deadline);
  changed_.wait_until(lock, end, [&] { return closing_ || queued_images_ >= target; });
}

Batcher::Batch Batcher::take_batch() {
  Batch batch;
  std::int64_t images = 0;
  // The first always, which alone may be more where the model does not batch.
  while (!queue_.empty() && (batch.empty() || images + queue_.front()->size <= limits_.max_batch)) {
    images += queue_.front()->size;
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  queued_images_ -= images;
  return batch;
}

void Batcher::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return closing_ || !queue_.empty(); });
    if (queue_.empty()) return;
    if (!closing_) wait_for_more(lock);
    std::vector<std::unique_ptr<Job>> lost;
    drop_lost(lost, Clock::now());
    Batch batch = take_batch();
    std::int64_t images = 0;
    for (const auto& job : batch) images += job->size;

    lock.unlock();
    for (const auto& job : lost) {
      if (job->gone && job->gone->load()) {
        job->fail(499, "the client closed the connection");
      } else {
        job->fail(504, "the request waited longer for its turn than its time allows");
      }
    }
    lost.clear();
    const Clock::time_point start = Clock::now();
    const auto computed = [&] {
      const std::lock_guard relock(mutex_);
      expected_images_ = images + queued_images_;
    };
    if (!batch.empty()) run_(batch, computed);
    batch.clear();
    lock.lock();

    if (images > 0) {
      last_end_ = Clock::now();
      last_run_ = last_end_ - start;
    }
  }
}

}  // namespace labelassemble::serve
