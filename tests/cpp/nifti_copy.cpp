// Reads NIfTI files and writes what it read: nifti_copy IN VALUES MASK MAP, again and again from
// the lines of the standard input, tabs between. VALUES: float32 in memory's order; MASK: where a
// value is above 0; MAP: the values and their negatives. A line a file: the shape and the affine,
// or what was wrong with it.
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "labelassemble/error.h"
#include "labelassemble/nifti.h"

namespace {

void copy(const std::vector<std::string>& paths) {
  const labelassemble::Volume volume = labelassemble::read_nifti(paths.at(0));
  std::ofstream values(paths.at(1), std::ios::binary);
  values.write(reinterpret_cast<const char*>(volume.values.data()),
               static_cast<std::streamsize>(volume.values.size() * sizeof(float)));
  std::vector<std::uint8_t> mask;
  std::vector<float> map = volume.values;
  for (const float value : volume.values) {
    mask.push_back(value > 0.0F ? 1 : 0);
    map.push_back(-value);
  }
  labelassemble::write_nifti(paths.at(2), volume, mask);
  labelassemble::write_nifti(paths.at(3), volume, map, 2);
  std::cout.precision(17);
  for (const auto size : volume.shape) std::cout << size << " ";
  for (const double value : volume.affine) std::cout << value << " ";
  std::cout << std::endl;
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::vector<std::string> paths;
    std::istringstream parts(line);
    for (std::string path; std::getline(parts, path, '\t');) paths.push_back(path);
    try {
      copy(paths);
    } catch (const labelassemble::Error& error) {
      std::cout << "refused: " << error.what() << std::endl;
    }
  }
}
