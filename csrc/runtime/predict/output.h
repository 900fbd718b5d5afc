// What labelassemble-predict prints.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "labelassemble/classifier.h"
#include "options.h"

namespace labelassemble::predict {

// One row an image; probabilities [images, classes] row by row.
void print(std::ostream& out, Format format, const Description& model,
           const std::vector<std::string>& images, const std::vector<float>& probabilities);

}  // namespace labelassemble::predict
