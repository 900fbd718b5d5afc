// LABELASSEMBLE_TEST_MODEL names an exported model with the classes "one" and "two, too".
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <labelassemble/classifier.h>
#include <labelassemble/not_finite.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using labelassemble::Classifier;
using labelassemble::Error;
using labelassemble::Image;
using labelassemble::Probabilities;

std::filesystem::path model_path() {
  const char* path = std::getenv("LABELASSEMBLE_TEST_MODEL");
  return path == nullptr ? "LABELASSEMBLE_TEST_MODEL is not set" : path;
}

Image ramp(std::int64_t channels, std::int64_t height, std::int64_t width) {
  Image image{channels, height, width, {}};
  for (std::int64_t i = 0; i < channels * height * width; ++i) image.pixels.push_back(i * 37 % 256);
  return image;
}

template <typename Function>
std::string refusal(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class ClassifierTest : public testing::Test {
 protected:
  Classifier classifier_{model_path()};
};

TEST_F(ClassifierTest, Describes) {
  const labelassemble::Description& model = classifier_.describe();
  EXPECT_EQ(model.classes, (std::vector<std::string>{"one", "two, too"}));
  EXPECT_EQ(model.interest, (std::vector<std::string>{"two, too"}));
  EXPECT_EQ(model.thresholds, (std::vector<double>{0.25, 0.75}));
  EXPECT_EQ(model.channels, 1);
  EXPECT_EQ(model.size, 12);
  EXPECT_EQ(model.mean.size(), 1U);
  EXPECT_EQ(model.std.size(), 1U);
  EXPECT_FALSE(model.library.empty());
}

TEST_F(ClassifierTest, AnswersImagesOfSeveralSizesAsOneByOne) {
  const std::vector<Image> images{ramp(1, 12, 12), ramp(3, 5, 40), ramp(1, 1, 1), ramp(3, 12, 12)};
  const Probabilities together = classifier_.predict(images);
  ASSERT_EQ(together.images, 4);
  ASSERT_EQ(together.classes, 2);
  for (std::size_t i = 0; i < images.size(); ++i) {
    const Probabilities alone = classifier_.predict(std::span(&images[i], 1));
    for (int c = 0; c < 2; ++c) EXPECT_NEAR(together.row(i)[c], alone.row(0)[c], 1e-6);
  }
  EXPECT_NE(together.row(0)[0], together.row(1)[0]);
}

TEST_F(ClassifierTest, AnswersTensorsAsImages) {
  const Image image = ramp(3, 20, 14);
  at::Tensor tensor = at::empty({1, 3, 20, 14}, at::kByte);
  std::copy(image.pixels.begin(), image.pixels.end(), tensor.mutable_data_ptr<std::uint8_t>());
  const Probabilities expected = classifier_.predict(std::span(&image, 1));
  const at::Tensor answer = classifier_.predict(tensor);
  ASSERT_EQ(answer.sizes(), (at::IntArrayRef{1, 2}));
  ASSERT_EQ(answer.scalar_type(), at::kFloat);
  const at::Tensor from_float = classifier_.predict(tensor.to(at::kFloat).div(255));
  for (int c = 0; c < 2; ++c) {
    EXPECT_NEAR(answer[0][c].item<float>(), expected.row(0)[c], 1e-6);
    EXPECT_NEAR(from_float[0][c].item<float>(), expected.row(0)[c], 1e-6);
  }
}

TEST_F(ClassifierTest, AnswersNoImageWithNoRow) {
  const Probabilities answer = classifier_.predict(std::span<const Image>());
  EXPECT_EQ(answer.images, 0);
  EXPECT_EQ(answer.classes, 2);
  EXPECT_TRUE(answer.values.empty());
  EXPECT_EQ(classifier_.predict(at::zeros({0, 1, 12, 12})).sizes(), (at::IntArrayRef{0, 2}));
}

TEST_F(ClassifierTest, AnswersTheSameFromSeveralThreads) {
  const std::vector<Image> images{ramp(1, 30, 30), ramp(1, 12, 12)};
  const Classifier fresh(
      model_path());  // its first calls, which compile, come from all threads at once
  const Probabilities expected = classifier_.predict(images);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int n = 0; n < 25; ++n) {
        if (fresh.predict(images).values != expected.values) ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

TEST_F(ClassifierTest, AnswersSomeClassesInTheOrderGiven) {
  const std::vector<Image> images{ramp(1, 12, 12), ramp(3, 5, 40)};
  const Probabilities all = classifier_.predict(images);
  const Probabilities some = classifier_.predict(images, {"two, too"});
  ASSERT_EQ(some.classes, 1);
  ASSERT_EQ(some.values.size(), 2U);
  const Probabilities turned = classifier_.predict(images, {"two, too", "one"});
  for (int i = 0; i < 2; ++i) {
    EXPECT_NEAR(some.row(i)[0], all.row(i)[1], 1e-6);
    EXPECT_NEAR(turned.row(i)[0], all.row(i)[1], 1e-6);
    EXPECT_NEAR(turned.row(i)[1], all.row(i)[0], 1e-6);
  }
  EXPECT_EQ(classifier_.predict(at::zeros({3, 1, 4, 4}), {"one"}).sizes(), (at::IntArrayRef{3, 1}));
  EXPECT_EQ(refusal([&] { classifier_.predict(images, {"tow"}); }), "the model has no class 'tow'");
}

TEST_F(ClassifierTest, Moves) {
  Classifier other = std::move(classifier_);
  const Image image = ramp(1, 3, 3);
  EXPECT_EQ(other.predict(std::span(&image, 1)).images, 1);
}

TEST_F(ClassifierTest, RefusesImagesThatDoNotFit) {
  Image image = ramp(1, 4, 5);
  image.pixels.pop_back();
  EXPECT_EQ(refusal([&] { classifier_.predict(std::span(&image, 1)); }),
            "images must hold channels (1 or 3) x height x width pixels, got 19 for 1 x 4 x 5 in "
            "image 0");
  const Image two_channels = ramp(2, 4, 5);
  EXPECT_NE(refusal([&] { classifier_.predict(std::span(&two_channels, 1)); }), "");
  // A product that overflows to the number of pixels must not pass.
  Image overflow{1, std::int64_t{1} << 33, std::int64_t{1} << 31, {}};
  EXPECT_NE(refusal([&] { classifier_.predict(std::span(&overflow, 1)); }), "");
  Image negative{1, -2, -2, std::vector<std::uint8_t>(4)};
  EXPECT_NE(refusal([&] { classifier_.predict(std::span(&negative, 1)); }), "");
}

TEST_F(ClassifierTest, RefusesTensorsThatDoNotFit) {
  EXPECT_EQ(refusal([&] { classifier_.predict(at::zeros({2, 12, 12})); }),
            "images must have the shape [B, 1 or 3, H, W], got [2, 12, 12]");
  EXPECT_EQ(refusal([&] { classifier_.predict(at::zeros({1, 2, 12, 12})); }),
            "images must have the shape [B, 1 or 3, H, W], got [1, 2, 12, 12]");
  EXPECT_EQ(refusal([&] { classifier_.predict(at::zeros({1, 1, 0, 12})); }),
            "images must have at least one pixel, got [1, 1, 0, 12]");
  EXPECT_EQ(refusal([&] { classifier_.predict(at::zeros({1, 1, 12, 12}, at::kInt)); }),
            "images must be uint8 (0..255) or floating (0..1), got Int");
}

TEST_F(ClassifierTest, RefusesFloatsOutsideZeroToOne) {
  const at::Tensor images = at::rand({2, 1, 12, 12});
  for (const double scale : {255.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    const std::string said = refusal([&] { classifier_.predict(images.mul(scale)); });
    EXPECT_NE(said.find("images must be uint8 (0..255) or floating in 0..1, got values from"),
              std::string::npos)
        << said;
  }
}

TEST(ClassifierLoad, RefusesWhatIsNoModel) {
  EXPECT_EQ(refusal([] { Classifier("no/such.pt"); }), "no/such.pt: no such model");
  const auto path = std::filesystem::temp_directory_path() /
                    ("labelassemble-not-a-model-" + std::to_string(std::rand()));
  std::ofstream(path) << "text";
  EXPECT_EQ(refusal([&] { Classifier{path}; }), path.string() + ": not a TorchScript file");
  std::ofstream(path, std::ios::binary) << "PK\x03\x04 and then nothing of an archive";
  EXPECT_NE(refusal([&] { Classifier{path}; }).find("not a TorchScript file that loads on cpu"),
            std::string::npos);
  std::filesystem::remove(path);
}

TEST(ClassifierLoad, RefusesWhatIsNoPackage) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("labelassemble-not-a-package-" + std::to_string(std::rand()) + ".pt2");
  std::ofstream(path) << "text";
  EXPECT_EQ(refusal([&] { Classifier{path}; }), path.string() + ": not an AOTInductor package");
  std::ofstream(path, std::ios::binary) << "PK\x03\x04 and then nothing of an archive";
  EXPECT_NE(refusal([&] { Classifier{path}; }).find("not an AOTInductor package that loads here ("),
            std::string::npos);
  std::filesystem::copy_file(model_path(), path, std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(refusal([&] { Classifier{path}; }), "");
  std::filesystem::remove(path);
}

TEST(ClassifierQueries, UsesTheQueriesOfTheClassesNamed) {
  const char* queries = std::getenv("LABELASSEMBLE_TEST_QUERIES");
  ASSERT_NE(queries, nullptr) << "LABELASSEMBLE_TEST_QUERIES is not set";
  const Classifier classifier(queries);
  const std::vector<std::string>& classes = classifier.describe().classes;
  ASSERT_GT(classes.size(), 1U);
  const std::vector<Image> images{ramp(1, 12, 12), ramp(3, 5, 40)};
  const Probabilities all = classifier.predict(images);
  for (std::size_t c = 0; c < classes.size(); ++c) {
    const Probabilities one = classifier.predict(images, {classes[c]});
    for (int i = 0; i < 2; ++i) EXPECT_NEAR(one.row(i)[0], all.row(i)[c], 1e-6);
  }
  EXPECT_NE(all.row(0)[0], all.row(0)[1]);
  EXPECT_EQ(refusal([&] { classifier.predict(images, {"none"}); }),
            "the model has no class 'none'");
}

TEST(ClassifierLoad, RefusesDevicesThatAreNotThere) {
  EXPECT_EQ(refusal([] { Classifier(model_path(), "gpu"); }),
            "device must be cpu, cuda or cuda:N, got 'gpu'");
  if (!at::hasCUDA()) {
    EXPECT_EQ(refusal([] { Classifier(model_path(), "cuda:1"); }),
              "device cuda:1 is not here: this libtorch was built without CUDA");
  }
}

TEST(NotFinite, PrintsNoSignOfANaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::string said = "image 0: the model's answer for 'one' must be finite, got ";
  EXPECT_EQ(labelassemble::NotFinite(0, "image 0", "one", std::copysign(nan, -1.0F)).what(),
            said + "nan");
  EXPECT_EQ(
      labelassemble::NotFinite(0, "image 0", "one", -std::numeric_limits<float>::infinity()).what(),
      said + "-inf");
}

}  // namespace
