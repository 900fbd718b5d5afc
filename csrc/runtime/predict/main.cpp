// labelassemble-predict: the probabilities of an exported model for images, at a shell. No Python.
#include <ATen/Parallel.h>

#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "labelassemble/classifier.h"
#include "labelassemble/memory.h"
#include "labelassemble/not_finite.h"
#include "options.h"
#include "output.h"

namespace {

namespace predict = labelassemble::predict;

void run(const predict::Options& options) {
  labelassemble::keep_freed_memory();
  if (options.threads > 0) at::set_num_threads(options.threads);
  const labelassemble::Classifier classifier(options.model, options.device);
  std::vector<float> probabilities;
  std::vector<labelassemble::Image> batch;
  for (std::size_t start = 0; start < options.images.size(); start += options.batch) {
    const std::size_t end = std::min(options.images.size(), start + options.batch);
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
  predict::print(std::cout, options.format, classifier.describe(), options.images, probabilities);
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
