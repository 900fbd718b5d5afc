// Segments volumes: segment_volumes, again and again from the lines of the standard input, tabs
// between MODEL VOLUME BATCH OUT. OUT.prepared and OUT.probabilities: float32 as the network saw
// the volume and answered it; OUT.mask.nii and OUT.map.nii: on the file's voxels. A line a volume:
// the shape that the network saw and the scores, or what was wrong.
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "labelassemble/segmenter.h"

namespace {

void write(const std::string& path, const std::vector<float>& values) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(float)));
}

void segment(const std::vector<std::string>& line) {
  const labelassemble::Segmenter segmenter(line.at(0));
  labelassemble::Volume volume = labelassemble::read_nifti(line.at(1));
  const std::int64_t batch = std::stoll(line.at(2));
  const std::string& out = line.at(3);
  const labelassemble::Volume prepared = segmenter.prepare(volume);
  write(out + ".prepared", prepared.values);
  write(out + ".probabilities", segmenter.probabilities(prepared, batch));
  const labelassemble::Segmentation answer = segmenter.segment(std::move(volume), batch);
  write_nifti(out + ".mask.nii", volume, segmenter.mask(answer, volume));
  std::vector<float> map;
  for (std::int64_t column = 0; column < answer.classes; ++column) {
    const std::vector<float> one = segmenter.on_voxels_of(volume, answer, column);
    map.insert(map.end(), one.begin(), one.end());
  }
  write_nifti(out + ".map.nii", volume, map, answer.classes);
  std::cout.precision(17);
  for (const auto size : answer.shape) std::cout << size << " ";
  for (const double score : answer.scores) std::cout << score << " ";
  std::cout << std::endl;
}

}  // namespace

int main() {
  std::string text;
  while (std::getline(std::cin, text)) {
    std::vector<std::string> line;
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, '\t');) line.push_back(part);
    try {
      segment(line);
    } catch (const labelassemble::Error& error) {
      std::cout << "refused: " << error.what() << std::endl;
    }
  }
}
