#include "options.h"

#include <charconv>
#include <cstddef>
#include <fstream>
#include <iostream>

#include "labelassemble/error.h"

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

int positive_number(const std::string& option, const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > 65536) {
    throw Error(option + " must be a whole number from 1 to 65536, got '" + text + "'");
  }
  return value;
}

Format parse_format(const std::string& text) {
  if (text == "table") return Format::kTable;
  if (text == "json") return Format::kJson;
  if (text == "csv") return Format::kCsv;
  throw Error("--format must be table, json or csv, got '" + text + "'");
}

}  // namespace

const char* const kHelp =
    R"(Usage: labelassemble-predict MODEL IMAGE... [OPTION]...

Print the probability of every class of MODEL for every IMAGE.

MODEL is a TorchScript file that labelassemble exported. IMAGE is a PGM, PPM, PNG or JPEG file of any
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

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  std::vector<std::string> positional;
  std::vector<std::string> lists;
  bool only_positional = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    std::string option = arguments[i];
    if (only_positional || option.size() < 2 || option[0] != '-') {
      positional.push_back(option);
      continue;
    }
    if (option == "--") {
      only_positional = true;
      continue;
    }
    if (option == "--help" || option == "-h") {
      options.help = true;
      return options;
    }
    if (option == "--version") {
      options.version = true;
      return options;
    }
    // --option VALUE and --option=VALUE
    std::string value;
    const std::size_t equals = option.find('=');
    const bool attached = equals != std::string::npos;
    if (attached) {
      value = option.substr(equals + 1);
      option.resize(equals);
    }
    if (option != "--format" && option != "--list" && option != "--batch" &&
        option != "--threads" && option != "--device") {
      throw Error("unknown option '" + option + "' (see --help)");
    }
    if (!attached) {
      if (i + 1 == arguments.size()) throw Error(option + " needs a value (see --help)");
      value = arguments[++i];
    }
    if (option == "--format") options.format = parse_format(value);
    if (option == "--list") lists.push_back(value);
    if (option == "--batch") options.batch = positive_number(option, value);
    if (option == "--threads") options.threads = positive_number(option, value);
    if (option == "--device") options.device = value;
  }
  if (positional.empty()) throw Error("a MODEL and at least one IMAGE are needed (see --help)");
  options.model = positional.front();
  options.images.assign(positional.begin() + 1, positional.end());
  for (const std::string& list : lists) read_list(list, options.images);
  if (options.images.empty())
    throw Error("at least one IMAGE is needed, or --list FILE (see --help)");
  return options;
}

}  // namespace labelassemble::predict
