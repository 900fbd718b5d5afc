// A request in a model's queue, its images or its volume prepared.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model.h"
#include "pixels.h"

namespace labelassemble::serve {

class Model::InferJob final : public Job {
 public:
  InferJob(Model& model, InferCall call, PreparedImages images, PreparedVolume volume,
           std::vector<std::size_t> columns, Done done)
      : call_(std::move(call)),
        images_(std::move(images)),
        volume_(std::move(volume)),
        columns_(std::move(columns)),
        model_(model),
        done_(std::move(done)) {
    size = images_.count;
    gone = call_.gone;
  }

  void fail(int status, const std::string& message) override {
    model_.metrics_.failed(status, Clock::now() - call_.arrived);
    InferOutcome outcome;
    outcome.error = HttpError(status, message);
    finish(std::move(outcome));
  }

  void finish(InferOutcome outcome) {
    model_.metrics_.pending(-1);
    done_(std::move(outcome));
  }

  const std::vector<float>& values() const { return images_.values; }
  const PreparedVolume& volume() const { return volume_; }
  const InferRequest& request() const { return call_.request; }
  const std::vector<std::size_t>& columns() const { return columns_; }

  // Gives up the volume, and all of the charge but `bytes`, which are taken where they are more.
  // Throws HttpError 413 or 503.
  Held hold_answer(std::size_t bytes) {
    volume_ = {};
    const std::size_t held = call_.charge.bytes();
    if (bytes > held) call_.charge.add(bytes - held);
    call_.charge.subtract(held - std::min(bytes, held));
    return std::make_shared<MemoryBudget::Charge>(std::move(call_.charge));
  }

  Clock::duration input{};
  Clock::duration queue{};

 private:
  InferCall call_;
  PreparedImages images_;
  PreparedVolume volume_;
  std::vector<std::size_t> columns_;
  Model& model_;
  Done done_;
};

}  // namespace labelassemble::serve
