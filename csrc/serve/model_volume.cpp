// How a model answers volumes: one at a time, between whose windows others may compute.
#include <algorithm>
#include <thread>
#include <utility>

#include "engine.h"
#include "infer_job.h"

namespace labelassemble::serve {
namespace {

// How long the windows of a volume compute before others may, and how long they are let in.
constexpr std::chrono::milliseconds kTurn{20};
constexpr std::chrono::microseconds kPause{100};

// An answer is here as tensors, as a message, and as what travels.
constexpr std::size_t kCopies = 3;

}  // namespace

void Model::check_volume_outputs(const InferRequest& request) {
  for (auto output = request.outputs.begin(); output != request.outputs.end(); ++output) {
    const bool again = std::any_of(request.outputs.begin(), output,
                                   [&](const auto& other) { return other.name == output->name; });
    if (again) throw HttpError(400, "output '" + output->name + "' is asked for twice");
    if (output->name == VolumeNetwork::kScores) continue;
    if (output->class_count > 0) {
      throw HttpError(400, "output '" + output->name + "' is a file and has no classification");
    }
    if (!output->binary.value_or(request.binary_output)) {
      throw HttpError(400, "output '" + output->name +
                               "' is a file: ask for it as binary data (the parameter "
                               "binary_data), JSON cannot hold it");
    }
  }
}

OutputTensor Model::file_output(const RequestedOutput& wanted, const InferJob& job,
                                const Segmentation& answer, const Interrupt& interrupt) const {
  OutputTensor output;
  output.type = DataType::kBytes;
  output.shape = {1};
  output.compressed = true;
  output.strings.push_back(
      wanted.name == VolumeNetwork::kMask
          ? volumes()->mask(job.volume(), answer, interrupt)
          : volumes()->probabilities(job.volume(), answer, job.columns(), interrupt));
  return output;
}

void Model::run_volume(InferJob& job, const std::function<void()>& computed) {
  shared_.compute.acquire();
  const Clock::time_point start = Clock::now();
  Clock::time_point turn = start;
  const Interrupt interrupt = [&] {
    const Clock::time_point now = Clock::now();
    if (job.gone && job.gone->load()) throw HttpError(499, "the client closed the connection");
    if (now >= job.deadline) {
      throw HttpError(504, "the volume took longer than the request's time allows");
    }
    if (now - turn < kTurn) return;
    // A volume takes the time of many batches: others, which wait, get theirs between its windows.
    shared_.compute.release();
    std::this_thread::sleep_for(kPause);
    shared_.compute.acquire();
    turn = Clock::now();
  };
  InferOutcome outcome;
  std::vector<float> scores;
  std::optional<HttpError> failure;
  Clock::time_point end = start;
  try {
    const Segmentation answer = volumes()->answer(job.volume(), interrupt);
    scores.assign(answer.scores.begin(), answer.scores.end());
    end = Clock::now();
    outcome.outputs = outputs_of(job, scores, [&](const RequestedOutput& wanted) {
      return file_output(wanted, job, answer, interrupt);
    });
  } catch (...) {
    failure = error_of(std::current_exception());
  }
  shared_.compute.release();
  computed();
  if (failure) return job.fail(failure->status(), failure->what());
  outcome.images = outcome.batch = 1;
  outcome.queue = start - job.arrived;
  outcome.infer = end - start;
  metrics_.computed(job.input, outcome.queue, outcome.infer);
  shared_.scores.answered(config_.name, version_, describe().classes, scores,
                          job.volume().seen.values);
  metrics_.executed(1, {}, end - start, Clock::now() - end);
  std::size_t bytes = 0;
  for (const OutputTensor& output : outcome.outputs) bytes += raw_bytes(output);
  try {
    outcome.held = job.hold_answer(kCopies * bytes);
  } catch (const HttpError& error) {
    return job.fail(error.status(), error.what());
  }
  job.finish(std::move(outcome));
}

}  // namespace labelassemble::serve
