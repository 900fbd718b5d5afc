// Reads damaged copies of the NIfTI files given: each must be read or throw labelassemble::Error,
// nothing else, and take no more memory than its size allows. nifti_mutants COUNT FOLDER FILE...:
// COUNT copies of each, the same ones every time, written to FOLDER one after the other.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "labelassemble/decode_guard.h"
#include "labelassemble/error.h"
#include "labelassemble/nifti.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kMostMemory = std::size_t{64} << 20;

// What a lying header asks for is refused here, where the machine would give it.
class Limit final : public labelassemble::DecodeGuard {
 public:
  void admit(std::size_t memory, std::size_t) override {
    if (memory > kMostMemory) throw labelassemble::Error("too large for this test");
  }
  void check() override {}
};

std::size_t below(std::mt19937& random, std::size_t limit) { return random() % limit; }

Bytes damage(Bytes bytes, std::mt19937& random) {
  switch (below(random, 4)) {
    case 0:
      bytes.resize(below(random, bytes.size()));
      break;
    case 1:
      for (std::size_t n = 1 + below(random, 8); n > 0; --n)
        bytes[below(random, bytes.size())] = static_cast<std::uint8_t>(random());
      break;
    case 2:  // within the header
      for (std::size_t n = 1 + below(random, 4); n > 0; --n)
        bytes[below(random, std::min<std::size_t>(bytes.size(), 352))] =
            static_cast<std::uint8_t>(random());
      break;
    default: {  // sizes, data type, offset, scale and affine, to values at their limits
      constexpr std::size_t kFields[] = {40,  42,  44,  46,  48,  70,  72,  76,  80,
                                         108, 112, 116, 252, 254, 256, 268, 280, 296};
      constexpr std::uint8_t kExtremes[][4] = {
          {0xFF, 0x7F, 0xFF, 0x7F}, {0, 0x80, 0, 0x80}, {0, 0, 0, 0},
          {0xFF, 0xFF, 0xFF, 0xFF}, {0, 0, 0x80, 0x7F}, {1, 0, 1, 0}};
      const std::size_t at = kFields[below(random, std::size(kFields))];
      const auto& extreme = kExtremes[below(random, std::size(kExtremes))];
      for (std::size_t i = 0; i < 4 && at + i < bytes.size(); ++i) bytes[at + i] = extreme[i];
    }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const int count = std::atoi(argv[1]);
  const Limit limit;
  std::mt19937 random(0);
  long read = 0;
  long refused = 0;
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const Bytes original{std::istreambuf_iterator<char>(file), {}};
    if (original.empty()) return 2;
    const std::string name = std::filesystem::path(argv[i]).filename().string();
    const std::string path = std::string(argv[2]) + "/" + name;
    for (int n = 0; n < count; ++n) {
      const Bytes mutant = damage(original, random);
      std::ofstream(path, std::ios::binary | std::ios::trunc)
          .write(reinterpret_cast<const char*>(mutant.data()),
                 static_cast<std::streamsize>(mutant.size()));
      try {
        const labelassemble::Volume volume = labelassemble::read_nifti(path);
        if (volume.values.size() != static_cast<std::size_t>(volume.voxels())) return 1;
        for (const double value : volume.affine) {
          if (!std::isfinite(value)) return 1;
        }
        labelassemble::write_nifti(path + ".mask.nii", volume, Bytes(volume.values.size()));
        labelassemble::read_nifti(path + ".mask.nii");
        ++read;
      } catch (const labelassemble::Error& error) {
        if (std::string(error.what()).find('\n') != std::string::npos) return 1;
        ++refused;
      }
    }
  }
  std::cout << read << " read, " << refused << " refused\n";
  return 0;
}
