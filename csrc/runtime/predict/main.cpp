// labelassemble-predict: the probabilities of an exported model for images, at a shell. No Python.
#include <ATen/Parallel.h>

#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "labelassemble/classifier.h"
#include "labelassemble/memory.h"
#include "labelassemble/not_finite.h"
#include "labelassemble/segmenter.h"
#include "options.h"
#include "output.h"

namespace {

namespace predict = labelassemble::predict;

predict::Answers answer_images(const predict::Options& options) {
  const std::size_t batch_size = options.batch > 0 ? options.batch : 16;
  const labelassemble::Classifier classifier(options.model, options.device);
  std::vector<float> probabilities;
  std::vector<labelassemble::Image> batch;
  for (std::size_t start = 0; start < options.images.size(); start += batch_size) {
    const std::size_t end = std::min(options.images.size(), start + batch_size);
    batch.clear();
    for (std::size_t i = start; i < end; ++i) {
      batch.push_back(labelassemble::read_image(options.images[i]));
    }
    const labelassemble::Probabilities answer = [&] {
      try {
        return classifier.predict(batch);
      } catch (const labelassemble::NotFinite& error) {
        const std::size_t image = start + static_cast<std::size_t>(error.image);
        throw labelassemble::NotFinite(error.image, options.images[image], error.class_name,
                                       error.value);
      }
    }();
    probabilities.insert(probabilities.end(), answer.values.begin(), answer.values.end());
  }
  const labelassemble::Description& model = classifier.describe();
  return {"image",          "probability",  "probabilities",         model.classes,
          model.thresholds, options.images, std::move(probabilities)};
}

// What is wrong with a volume, with its name before it.
[[noreturn]] void rethrow(const std::string& path, const labelassemble::Error& error) {
  const std::string text = error.what();
  throw labelassemble::Error(text.starts_with(path) ? text : path + ": " + text);
}

void write_voxels(const predict::Options& options, const labelassemble::Segmenter& segmenter,
                  const labelassemble::Volume& volume, const labelassemble::Segmentation& answer) {
  if (!options.mask.empty())
    labelassemble::write_nifti(options.mask, volume, segmenter.mask(answer, volume));
  if (options.probabilities.empty()) return;
  std::vector<float> map;
  for (std::int64_t column = 0; column < answer.classes; ++column) {
    const std::vector<float> one = segmenter.on_voxels_of(volume, answer, column);
    map.insert(map.end(), one.begin(), one.end());
  }
  labelassemble::write_nifti(options.probabilities, volume, map, answer.classes);
}

predict::Answers answer_volumes(const predict::Options& options) {
  const labelassemble::Segmenter segmenter(options.model, options.device);
  std::vector<float> scores;
  for (const std::string& path : options.images) {
    labelassemble::Volume volume = labelassemble::read_nifti(path);
    labelassemble::Segmentation answer;
    try {
      answer = segmenter.segment(std::move(volume), options.batch);
    } catch (const labelassemble::Error& error) {
      rethrow(path, error);
    }
    scores.insert(scores.end(), answer.scores.begin(), answer.scores.end());
    write_voxels(options, segmenter, volume, answer);
  }
  const labelassemble::SegmenterDescription& model = segmenter.describe();
  return {"volume",         "score",        "scores",         model.classes,
          model.thresholds, options.images, std::move(scores)};
}

void run(const predict::Options& options) {
  labelassemble::keep_freed_memory();
  if (options.threads > 0) at::set_num_threads(options.threads);
  predict::print(std::cout, options.format,
                 options.volumes ? answer_volumes(options) : answer_images(options));
  std::cout.flush();
  if (!std::cout) throw labelassemble::Error("the answer cannot be written to the standard output");
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  try {
    predict::Options options;
    const auto arguments = predict::parse({argv + 1, argv + argc}, options);
    if (!labelassemble::command_line::print_help_or_version(arguments, "labelassemble-predict",
                                                            predict::kHelp)) {
      run(options);
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "labelassemble-predict: " << error.what() << "\n";
    return 2;
  }
}
