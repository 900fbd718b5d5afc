// Decodes damaged copies of the images given: each must decode or throw labelassemble::Error,
// nothing else. decode_mutants COUNT IMAGE...: COUNT copies of each, the same ones every time.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "labelassemble/error.h"
#include "labelassemble/image.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

std::size_t below(std::mt19937& random, std::size_t limit) { return random() % limit; }

// One damage: bytes changed (mostly near the header), cut off, doubled, or digits that become
// others.
Bytes damage(Bytes bytes, std::mt19937& random) {
  switch (below(random, 5)) {
    case 0:
      bytes.resize(below(random, bytes.size()));
      break;
    case 1:
      for (std::size_t n = 1 + below(random, 8); n > 0; --n) {
        bytes[below(random, bytes.size())] = static_cast<std::uint8_t>(random());
      }
      break;
    case 2:
      for (std::size_t n = 1 + below(random, 4); n > 0; --n) {
        bytes[below(random, std::min<std::size_t>(bytes.size(), 64))] =
            static_cast<std::uint8_t>(random());
      }
      break;
    case 3: {
      const std::size_t start = below(random, bytes.size());
      const Bytes piece(bytes.begin() + start, bytes.begin() + std::min(bytes.size(), start + 32));
      bytes.insert(bytes.begin() + below(random, bytes.size()), piece.begin(), piece.end());
      break;
    }
    default:
      for (std::size_t i = 0; i < std::min<std::size_t>(bytes.size(), 24); ++i) {
        if (bytes[i] >= '0' && bytes[i] <= '9' && below(random, 3) == 0) {
          bytes[i] = static_cast<std::uint8_t>('0' + below(random, 10));
        }
      }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const int count = std::atoi(argv[1]);
  std::mt19937 random(0);
  long decoded = 0;
  long refused = 0;
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const Bytes original{std::istreambuf_iterator<char>(file), {}};
    if (original.empty()) return 2;
    for (int n = 0; n < count; ++n) {
      // The exact allocation lets AddressSanitizer see a read of even one byte too many.
      const Bytes mutant = damage(original, random);
      try {
        const labelassemble::Image image = labelassemble::decode_image(mutant, argv[i]);
        if (image.pixels.size() !=
            static_cast<std::size_t>(image.channels * image.height * image.width)) {
          std::cerr << argv[i] << ": copy " << n << " has pixels that do not fit its size\n";
          return 1;
        }
        ++decoded;
      } catch (const labelassemble::Error& error) {
        if (std::string(error.what()).find('\n') != std::string::npos) return 1;
        ++refused;
      }
    }
  }
  std::cout << decoded << " decoded, " << refused << " refused\n";
  return 0;
}
