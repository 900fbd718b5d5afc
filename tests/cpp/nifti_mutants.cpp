// Reads damaged copies of the NIfTI files given: each must be read or throw labelassemble::Error,
// nothing else, take no more memory than its size allows, and read alike from a file and from
// memory. nifti_mutants COUNT FOLDER FILE...:
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
#include <span>
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

// What a reader says of a mutant: its values and place, or the sentence that refuses it.
struct Reading {
  labelassemble::Volume volume;
  std::string refused;
  bool operator==(const Reading& other) const {
    const auto same = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
    return refused == other.refused && volume.shape == other.volume.shape &&
           std::equal(volume.affine.begin(), volume.affine.end(), other.volume.affine.begin(),
                      other.volume.affine.end(), same) &&
           std::equal(volume.values.begin(), volume.values.end(), other.volume.values.begin(),
                      other.volume.values.end(), same);
  }
};

template <typename... Source>
Reading reading(const Source&... source) {
  try {
    return {labelassemble::read_nifti(source...), ""};
  } catch (const labelassemble::Error& error) {
    return {{}, error.what()};
  }
}

// Whether file and memory are read alike, and what is written of them too.
bool reads_alike(const std::string& path, const Bytes& mutant) {
  const Reading file = reading(std::filesystem::path(path));
  const Reading memory = reading(std::span<const std::uint8_t>(mutant), path);
  // A file that is compressed is read ahead, and may be refused for what follows its header.
  const bool both_refused = !file.refused.empty() && !memory.refused.empty();
  const bool compressed = mutant.size() >= 2 && mutant[0] == 0x1f && mutant[1] == 0x8b;
  if (!(file == memory || (compressed && both_refused))) {
    std::cout << "file: " << file.refused << "\nmemory: " << memory.refused << "\n";
    return false;
  }
  if (both_refused) return (file.refused + memory.refused).find('\n') == std::string::npos;
  const labelassemble::Volume& volume = file.volume;
  if (volume.values.size() != static_cast<std::size_t>(volume.voxels())) return false;
  for (const double value : volume.affine) {
    if (!std::isfinite(value)) return false;
  }
  const Bytes mask(volume.values.size(), 1);
  labelassemble::write_nifti(path + ".mask.nii.gz", volume, mask);
  const std::string encoded = labelassemble::encode_nifti(volume, mask);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(encoded.data());
  return reading(std::filesystem::path(path + ".mask.nii.gz")) ==
         reading(std::span<const std::uint8_t>(bytes, encoded.size()), path);
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
      if (!reads_alike(path, mutant)) {
        std::cout << name << ", damaged " << n << "\n";
        return 1;
      }
      ++(reading(std::filesystem::path(path)).refused.empty() ? read : refused);
    }
  }
  std::cout << read << " read, " << refused << " refused\n";
  return 0;
}
