// A C++ program of your own around an exported model: prints the classes found in each image.
#include <labelassemble/classifier.h>

#include <cmath>
#include <cstddef>
#include <exception>
#include <iostream>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: classify MODEL IMAGE...\n";
    return 2;
  }
  try {
    const labelassemble::Classifier classifier(argv[1]);
    const labelassemble::Description& model = classifier.describe();

    std::vector<labelassemble::Image> images;  // of any size, grey or colour
    for (int i = 2; i < argc; ++i) images.push_back(labelassemble::read_image(argv[i]));

    const labelassemble::Probabilities answer = classifier.predict(images);
    for (std::size_t i = 0; i < images.size(); ++i) {
      std::cout << argv[i + 2] << ":";
      for (std::size_t c = 0; c < model.classes.size(); ++c) {
        const float probability = answer.row(i)[c];
        const double threshold = model.thresholds.empty() ? 0.5 : model.thresholds[c];
        if (std::isnan(threshold))  // none could be chosen for this class
          std::cout << " " << model.classes[c] << "? (" << probability << ")";
        else if (probability >= threshold)
          std::cout << " " << model.classes[c] << " (" << probability << ")";
      }
      std::cout << "\n";
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";  // one sentence: what, which rule, what came
    return 1;
  }
}
