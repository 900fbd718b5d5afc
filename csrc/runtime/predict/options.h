// The command line of labelassemble-predict.
#pragma once

#include <string>
#include <vector>

namespace labelassemble::predict {

enum class Format { kTable, kJson, kCsv };

struct Options {
  std::string model;
  std::vector<std::string>
      images;  // in the order given, those of --list after those of the command line
  Format format = Format::kTable;
  std::string device = "cpu";
  int batch = 16;
  int threads = 0;  // 0: as many as libtorch chooses
  bool help = false;
  bool version = false;
};

// Throws Error with one sentence for anything that does not fit.
Options parse(const std::vector<std::string>& arguments);

extern const char* const kHelp;

}  // namespace labelassemble::predict
