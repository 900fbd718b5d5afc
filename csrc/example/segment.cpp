// segment MODEL VOLUME MASK: prints the patient's score of every class and writes the mask.
#include <labelassemble/segmenter.h>

#include <iostream>
#include <utility>

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: segment MODEL VOLUME MASK\n";
    return 1;
  }
  try {
    const labelassemble::Segmenter segmenter(argv[1]);
    // One in memory: labelassemble::make_volume({512, 512, 400}, {0.7, 0.7, 1.0}, values)
    labelassemble::Volume volume = labelassemble::read_nifti(argv[2]);
    const labelassemble::Segmentation answer = segmenter.segment(std::move(volume));
    for (std::size_t c = 0; c < segmenter.describe().classes.size(); ++c)
      std::cout << segmenter.describe().classes[c] << " " << answer.scores[c] << "\n";
    // What is left of the volume says where its voxels lie.
    labelassemble::write_nifti(argv[3], volume, segmenter.mask(answer, volume));
  } catch (const labelassemble::Error& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
