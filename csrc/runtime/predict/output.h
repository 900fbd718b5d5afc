// What labelassemble-predict prints.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "options.h"

namespace labelassemble::predict {

// What is printed, and what it is called.
struct Answers {
  std::string row;    // "image" or "volume"
  std::string value;  // "probability" or "score"
  std::string values;
  std::vector<std::string> classes;
  std::vector<double> thresholds;  // one a class, or none
  std::vector<std::string> paths;
  std::vector<float> numbers;  // [paths, classes] row by row
};

// One row a path.
void print(std::ostream& out, Format format, const Answers& answers);

}  // namespace labelassemble::predict
