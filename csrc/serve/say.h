// What the server says to whoever runs it.
#pragma once

#include <string>

namespace labelassemble::serve {

// One line on the standard error, if it takes one now: nothing waits for a reader that has stopped.
void say(const std::string& line);

}  // namespace labelassemble::serve
