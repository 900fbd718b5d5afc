// The command line of labelassemble-predict.
#pragma once

#include <string>
#include <vector>

#include "command_line.h"

namespace labelassemble::predict {

enum class Format { kTable, kJson, kCsv };

struct Options {
  std::string model;
  std::vector<std::string>
      images;            // in the order given, those of --list after those of the command line
  bool volumes = false;  // `images` are NIfTI files
  Format format = Format::kTable;
  std::string device = "cpu";
  int batch = 0;              // 0: 16 images, or windows of a volume by their size
  std::string mask;           // where the mask of the only volume goes; empty: nowhere
  std::string probabilities;  // likewise its map of probabilities
  int threads = 0;            // 0: as many as libtorch chooses
};

// Throws Error with one sentence for anything that does not fit.
command_line::Arguments parse(const std::vector<std::string>& arguments, Options& options);

extern const char* const kHelp;

}  // namespace labelassemble::predict
