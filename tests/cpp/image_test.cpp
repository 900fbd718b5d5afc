#include <gtest/gtest.h>
#include <labelassemble/decode_guard.h>
#include <labelassemble/error.h>
#include <labelassemble/image.h>

#include <cstdint>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

namespace {

using labelassemble::decode_image;
using labelassemble::Error;
using labelassemble::Image;
using Bytes = std::vector<std::uint8_t>;

Bytes bytes(const std::string& text) { return Bytes(text.begin(), text.end()); }

// The sentence with which `text` is refused; empty when it is not.
std::string refused_image(const std::string& text) {
  try {
    decode_image(bytes(text), "x");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Pnm, ReadsGrey) {
  const Image image = decode_image(bytes("P5\n# a comment\n3 2\n255\nabcdef"), "x");
  EXPECT_EQ(image.channels, 1);
  EXPECT_EQ(image.height, 2);
  EXPECT_EQ(image.width, 3);
  EXPECT_EQ(image.pixels, bytes("abcdef"));
}

TEST(Pnm, ReadsColourChannelByChannel) {
  const Image image = decode_image(bytes("P6 2 1 255 rgbRGB"), "x");
  EXPECT_EQ(image.channels, 3);
  EXPECT_EQ(image.pixels, bytes("rRgGbB"));
}

TEST(Pnm, IgnoresWhatFollowsTheImage) {
  EXPECT_EQ(decode_image(bytes("P5 1 1 255\nab"), "x").pixels, bytes("a"));
}

TEST(Pnm, KeepsAFirstPixelThatLooksLikeSpace) {
  EXPECT_EQ(decode_image(bytes("P5 2 1 255\n\n "), "x").pixels, bytes("\n "));
}

TEST(Pnm, RefusesDamage) {
  EXPECT_EQ(refused_image("P5 3 2 255\nabc"),
            "x: damaged PGM or PPM image: 3 x 2 needs 6 bytes of pixels, got 3");
  EXPECT_EQ(refused_image("P5 0 2 255\n"), "x: an image must have at least one pixel, got 0 x 2");
  EXPECT_EQ(refused_image("P5 80000000 80000000 255\n"),
            "x: an image must have at most 89478485 pixels, got 80000000 x 80000000");
  EXPECT_EQ(refused_image("P5 99999999999999999999999 1 255\n"),
            "x: damaged PGM or PPM image: its width is beyond any image");
  EXPECT_EQ(refused_image("P5 -1 2 255\n"),
            "x: damaged PGM or PPM image: its header must give a width in digits");
  EXPECT_EQ(refused_image("P5"),
            "x: damaged PGM or PPM image: its header must give a width in digits");
  EXPECT_EQ(refused_image("P5 1 1 255"),
            "x: damaged PGM or PPM image: its header must end in white space");
  EXPECT_EQ(refused_image("P5 1 1 65536\nab"),
            "x: a PGM or PPM image must have 1 to 65535 as its largest value, got 65536");
  EXPECT_EQ(refused_image("P5 1 2 65535\nab"),
            "x: damaged PGM or PPM image: 1 x 2 needs 4 bytes of pixels, got 2");
}

TEST(Pnm, ScalesTheLargestValueToWhite) {
  EXPECT_EQ(
      decode_image(bytes("P5 3 1 4095\n" + std::string("\x0f\xff\x08\x00\x00\x00", 6)), "x").pixels,
      (Bytes{255, 128, 0}));
  EXPECT_EQ(decode_image(bytes("P5 2 1 100\nd2"), "x").pixels, (Bytes{255, 128}));
  EXPECT_EQ(
      decode_image(bytes(std::string("P6 1 1 65535\n\xff\xff\x80\x80\x00\x00", 19)), "x").pixels,
      (Bytes{255, 128, 0}));
}

// A BMP file of 2 x 2 pixels with 24 bits; `changed` is put at `at`.
std::string bmp(std::size_t at = 0, const std::string& changed = "") {
  std::string file("BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0\2\0\0\0\1\0\x18\0", 30);
  file.resize(54);
  file += std::string("bgrBGR\0\0xyzXYZ\0\0", 16);  // the lower row first, rows of 8 bytes
  return file.replace(at, changed.size(), changed);
}

TEST(Bmp, ReadsColourFromTheLowestRowUp) {
  EXPECT_EQ(decode_image(bytes(bmp()), "x").pixels, bytes("zZrRyYgGxXbB"));
  EXPECT_EQ(decode_image(bytes(bmp(22, "\xfe\xff\xff\xff")), "x").pixels, bytes("rRzZgGyYbBxX"));
}

TEST(Bmp, RefusesDamage) {
  EXPECT_EQ(refused_image(bmp().substr(0, 69)),
            "x: damaged BMP image: 2 x 2 needs 16 bytes of pixels, got 15");
  EXPECT_EQ(refused_image(bmp().substr(0, 20)), "x: damaged BMP image: its header is cut off");
  EXPECT_EQ(refused_image(bmp(18, "\xff\xff\xff\x7f")),
            "x: an image must have at most 89478485 pixels, got 2147483647 x 2");
  EXPECT_EQ(refused_image(bmp(30, "\1")), "x: a BMP image must have no compression, got method 1");
}

TEST(Image, RefusesOtherFormats) {
  EXPECT_EQ(refused_image(""), "x: an image must not be empty");
  EXPECT_EQ(
      refused_image("GIF89a"),
      "x: not an image of a known kind: expected PNG, JPEG, TIFF, WebP, BMP, or binary PGM or PPM");
  EXPECT_EQ(
      refused_image("P2 1 1 255 7"),
      "x: not an image of a known kind: expected PNG, JPEG, TIFF, WebP, BMP, or binary PGM or PPM");
  EXPECT_NE(refused_image("\x89PNG\r\n\x1a\ngarbage"), "");
  EXPECT_NE(refused_image("\xff\xd8\xff garbage"), "");
}

TEST(Image, NamesAFileThatIsNotThere) {
  try {
    labelassemble::read_image("no/such.png");
    FAIL() << "it was read";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "no/such.png: no such image");
  }
  EXPECT_THROW(labelassemble::read_image(std::filesystem::temp_directory_path()), Error);
}

// Counts how often a decoder asks whether it is still wanted, and says no at the time `last`.
class Counting final : public labelassemble::DecodeGuard {
 public:
  explicit Counting(int last) : last_(last) {}
  void admit(std::size_t, std::size_t) override {}
  void check() override {
    if (++asked == last_) throw Error("given up");
  }
  int asked = 0;

 private:
  const int last_;
};

// 1024 x 1024 of black in one strip, compressed with PackBits.
Bytes one_strip() {
  const std::uint32_t side = 1024;
  const std::uint32_t length = side * side / 128 * 2;
  const std::uint32_t tags[][3] = {{256, 4, side},  {257, 4, side}, {258, 3, 8},
                                   {259, 3, 32773}, {262, 3, 1},    {273, 4, 8},
                                   {277, 3, 1},     {278, 4, side}, {279, 4, length}};
  Bytes file = bytes(std::string("II*\0", 4));
  const auto append = [&](std::uint32_t value, int size) {
    for (int i = 0; i < size; ++i) file.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  };
  append(8 + length, 4);  // where the directory is
  for (std::uint32_t i = 0; i < length; i += 2) append(0x0081, 2);
  append(std::size(tags), 2);
  for (const auto& [tag, type, value] : tags) {
    append(tag, 2);
    append(type, 2);
    append(1, 4);
    append(value, 4);
  }
  append(0, 4);
  return file;
}

// 1500 x 1500 of one colour, without loss.
Bytes one_colour_webp() {
  return bytes(std::string(
      "RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f\xdb\xc5\x76\x01\x07\x50\x84\x1e\x34\xa1\xff\x81"
      "\x88\xe8\x7f\0\0\0",
      38));
}

TEST(DecodeGuard, IsAskedWithinAStripAndWithinAWebP) {
  for (const Bytes& file : {one_strip(), one_colour_webp()}) {
    Counting all(-1);
    std::string refused;
    try {
      decode_image(file, "x");
    } catch (const Error& error) {
      refused = error.what();
    }
    if (refused.find("built without") != std::string::npos) continue;
    EXPECT_EQ(refused, "");
    EXPECT_GE(all.asked, 8);
    Counting some(5);
    EXPECT_THROW(decode_image(file, "x"), Error);
    EXPECT_EQ(some.asked, 5);
  }
}

}  // namespace
