#include "options.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <system_error>

#include "labelassemble/nifti.h"

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

// Whether all are NIfTI files.
bool are_volumes(const std::vector<std::string>& paths) {
  const auto other = std::find_if_not(paths.begin(), paths.end(), is_nifti_name);
  if (other != paths.end() && std::any_of(paths.begin(), paths.end(), is_nifti_name)) {
    throw Error("images and volumes cannot be mixed, and " + *other +
                " is no volume (.nii, .nii.gz)");
  }
  return other == paths.end();
}

void check_written(const Options& options) {
  for (const std::string& path : {options.mask, options.probabilities}) {
    if (path.empty()) continue;
    if (!options.volumes || options.images.size() != 1) {
      throw Error("--mask and --probabilities go with one volume (.nii, .nii.gz), got " +
                  std::to_string(options.images.size()) +
                  (options.volumes ? " volumes" : " images"));
    }
    if (!is_nifti_name(path)) throw Error(path + ": its name must end in .nii or .nii.gz");
    std::error_code none;  // a file that is not there yet
    if (std::filesystem::equivalent(path, options.images.front(), none)) {
      throw Error(path + ": would replace the volume that is read: choose another name");
    }
  }
  const auto place = [](const std::string& path) {
    std::error_code error;
    const std::filesystem::path found = std::filesystem::weakly_canonical(path, error);
    return error ? std::filesystem::path(path) : found;
  };
  if (!options.mask.empty() && !options.probabilities.empty() &&
      place(options.mask) == place(options.probabilities)) {
    throw Error(options.mask + ": --mask and --probabilities must be two files");
  }
}

}  // namespace

const char* const kHelp =
    R"(Usage: labelassemble-predict MODEL IMAGE... [OPTION]...
       labelassemble-predict MODEL VOLUME... [OPTION]...

Print the probability of every class of MODEL for every IMAGE, or the patient's score of every class for every VOLUME.

MODEL is a TorchScript file that labelassemble exported. IMAGE is a PNG, JPEG, TIFF, WebP, BMP, PGM or PPM file of any
size, grey or colour; the model converts it. VOLUME is a NIfTI file (.nii, .nii.gz) of any voxel size and orientation,
for a model of a detection.

Options:
  --format FORMAT  table (default), json or csv; json and csv give every digit
  --list FILE      read further images from FILE, one path a line; - is the standard input
  --batch N        images (default 16) or windows of a volume (default: 1 to 4, by their size) at once
  --mask FILE      of one VOLUME: write its mask, on its own voxels: k for the k-th class, 0 for none
  --probabilities FILE  of one VOLUME: write the probabilities of its voxels, a class along the last axis
  --threads N      threads within an operation (default: libtorch's choice)
  --device DEVICE  cpu (default), cuda or cuda:N
  --version        print the version and the formats that this build reads, and exit
  --help           print this and exit

In a table, * marks a probability or score at or above the model's threshold of its class, and ?
one of a class for which none could be chosen: it is no decision.
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
                     {"--mask", cl::text(options.mask)},
                     {"--probabilities", cl::text(options.probabilities)},
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
  options.volumes = are_volumes(options.images);
  check_written(options);
  return parsed;
}

}  // namespace labelassemble::predict
