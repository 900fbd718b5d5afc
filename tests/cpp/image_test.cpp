#include <gtest/gtest.h>
#include <labelassemble/error.h>
#include <labelassemble/image.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace {

using labelassemble::decode_image;
using labelassemble::Error;
using labelassemble::Image;
using Bytes = std::vector<std::uint8_t>;

Bytes bytes(const std::string& text) { return Bytes(text.begin(), text.end()); }

// The sentence with which `text` is refused; empty when it is not.
std::string refusal(const std::string& text) {
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
  EXPECT_EQ(refusal("P5 3 2 255\nabc"),
            "x: damaged PGM or PPM image: 3 x 2 needs 6 bytes of pixels, got 3");
  EXPECT_EQ(refusal("P5 0 2 255\n"), "x: an image must have at least one pixel, got 0 x 2");
  EXPECT_EQ(refusal("P5 80000000 80000000 255\n"),
            "x: an image must have at most 89478485 pixels, got 80000000 x 80000000");
  EXPECT_EQ(refusal("P5 99999999999999999999999 1 255\n"),
            "x: damaged PGM or PPM image: its width is beyond any image");
  EXPECT_EQ(refusal("P5 -1 2 255\n"),
            "x: damaged PGM or PPM image: its header must give a width in digits");
  EXPECT_EQ(refusal("P5"), "x: damaged PGM or PPM image: its header must give a width in digits");
  EXPECT_EQ(refusal("P5 1 1 255"),
            "x: damaged PGM or PPM image: its header must end in white space");
  EXPECT_EQ(refusal("P5 1 1 65535\nab"),
            "x: a PGM or PPM image must have 255 as its largest value, got 65535");
}

TEST(Image, RefusesOtherFormats) {
  EXPECT_EQ(refusal(""), "x: an image must not be empty");
  EXPECT_EQ(refusal("GIF89a"),
            "x: not an image that can be read: expected binary PGM or PPM, PNG or JPEG");
  EXPECT_EQ(refusal("P2 1 1 255 7"),
            "x: not an image that can be read: expected binary PGM or PPM, PNG or JPEG");
  EXPECT_NE(refusal("\x89PNG\r\n\x1a\ngarbage"), "");
  EXPECT_NE(refusal("\xff\xd8\xff garbage"), "");
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

}  // namespace
