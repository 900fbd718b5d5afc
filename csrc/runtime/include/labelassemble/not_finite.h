// What a broken model answers, as an exception.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "labelassemble/error.h"

namespace labelassemble {

// A model's answer that is not finite: its training diverged, or its file is damaged.
class NotFinite : public Error {
 public:
  // `name` is what the sentence calls the image.
  NotFinite(std::int64_t image, const std::string& name, const std::string& class_name, float value)
      : Error(name + ": the model's answer for '" + class_name + "' must be finite, got " +
              (std::isnan(value) ? "nan" : std::to_string(value))),  // a NaN's sign says nothing
        image(image),
        class_name(class_name),
        value(value) {}

  std::int64_t image;  // which of those that were asked about, from 0
  std::string class_name;
  float value;
};

}  // namespace labelassemble
