#include "options.h"

#include <fstream>
#include <iostream>

namespace labelassemble::predict {
namespace {

void read_list(const std::string& name, std::vector<std::string>& images) {
  std::ifstream file;
  if (name != "-") {
    file.open(name);
    if (!file) throw Error(name + ": the list of images cannot be opened");
  }
  std::istream& in = name == "-" ? std::cin : file;
  std::string line;
  while (std::getline(in, line)) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) images.push_back(line);
  }
  if (in.bad()) throw Error(name + ": the list of images cannot be read");
}

}  // namespace

const char* const kHelp =
    R"(Usage: labelassemble-predict MODEL IMAGE... [OPTION]...

Print the probability of every class of MODEL for every IMAGE.

MODEL is a TorchScript file that labelassemble exported. IMAGE is a PNG, JPEG, TIFF, WebP, BMP, PGM or PPM file of any
size, grey or colour; the model converts it.

Options:
  --format FORMAT  table (default), json or csv; json and csv give every digit
  --list FILE      read further images from FILE, one path a line; - is the standard input
  --batch N        images that run through the network at once (default 16)
  --threads N      threads within an operation (default: libtorch's choice)
  --device DEVICE  cpu (default), cuda or cuda:N
  --version        print the version and the formats that this build reads, and exit
  --help           print this and exit

In a table, * marks a probability at or above the model's threshold of its class.
Exit status: 0, or 2 with one sentence on the standard error when something cannot be read; then
nothing is printed on the standard output.
)";

command_line::Arguments parse(const std::vector<std::string>& arguments, Options& options) {
  namespace cl = command_line;
  std::vector<std::string> lists;
  cl::Arguments parsed = cl::parse(
      arguments, {
                     {"--format", cl::one_of<Format>(options.format, {{"table", Format::kTable},
                                                                      {"json", Format::kJson},
                                                                      {"csv", Format::kCsv}})},
                     {"--list", cl::text_list(lists)},
                     {"--batch", cl::whole_number(options.batch, 1, 65536)},
                     {"--threads", cl::whole_number(options.threads, 1, 65536)},
                     {"--device", cl::text(options.device)},
                 });
  if (parsed.help || parsed.version) return parsed;
  if (parsed.positional.empty())
    throw Error("a MODEL and at least one IMAGE are needed (see --help)");
  options.model = parsed.positional.front();
  options.images.assign(parsed.positional.begin() + 1, parsed.positional.end());
  for (const std::string& list : lists) read_list(list, options.images);
  if (options.images.empty())
    throw Error("at least one IMAGE is needed, or --list FILE (see --help)");
  return parsed;
}

}  // namespace labelassemble::predict
