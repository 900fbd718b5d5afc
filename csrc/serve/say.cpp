#include "say.h"

#include <poll.h>
#include <unistd.h>

#include <climits>

namespace labelassemble::serve {

void say(const std::string& line) {
  // A pipe that is ready takes PIPE_BUF bytes at once.
  const std::string text = ("labelassemble-serve: " + line).substr(0, PIPE_BUF - 1) + "\n";
  pollfd standard_error{STDERR_FILENO, POLLOUT, 0};
  if (poll(&standard_error, 1, 0) != 1 || (standard_error.revents & POLLOUT) == 0) return;
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace labelassemble::serve
