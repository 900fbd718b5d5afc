// What goes wrong in labelassemble's C++ library, as an exception.
#pragma once

#include <stdexcept>

namespace labelassemble {

// what() is one sentence that names the thing, the rule and what came.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace labelassemble
