// An exported network that answers every voxel, over whole volumes: the C++ side of
// labelassemble.export for detection. Needs libtorch, not Python.
//
//   labelassemble::Segmenter segmenter("model.pt");
//   const labelassemble::Volume volume = labelassemble::read_nifti("patient.nii.gz");
//   const labelassemble::Segmentation answer = segmenter.segment(volume);
//   for (std::size_t c = 0; c < segmenter.describe().classes.size(); ++c)
//     std::cout << segmenter.describe().classes[c] << " " << answer.scores[c] << "\n";
//   labelassemble::write_nifti("mask.nii.gz", volume, segmenter.mask(answer, volume));
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "labelassemble/error.h"
#include "labelassemble/nifti.h"

namespace labelassemble {

// What a patch network says of itself. It is given volumes as their files have them: turning,
// resampling and scaling are done here.
struct SegmenterDescription {
  std::vector<std::string> classes;   // in the order of every answer
  std::vector<std::string> interest;  // those that the model was chosen by; may be empty
  // Of the scores, one a class, positive from it on; infinity: never; NaN: none could be chosen for
  // that class, and its score is no decision. Empty: none chosen at all.
  std::vector<double> thresholds;
  std::vector<std::int64_t> patch;  // what it sees at once: 2 sizes (slices) or 3 (volumes)
  double overlap = 0.0;             // of neighbouring windows, a share of the patch
  std::vector<double> spacing;      // mm, one an axis; empty: that of the file
  std::vector<double> window;       // values that become 0 and 1; empty: by `percentiles`
  std::vector<double> percentiles;  // of a volume's own values, that become 0 and 1
  double threshold = 0.5;           // voxels from it on make the mask
  bool maximum = false;             // a patient's score is the highest of the slices', not the mean
  double top = 0.01;                // the share of a slice's voxels that make its score
  std::string library;              // the version of labelassemble that exported it
};

// Probabilities [classes, shape] on the voxels that the network saw.
struct Segmentation {
  std::array<std::int64_t, 3> shape{};
  Affine affine{};
  std::int64_t classes = 0;
  std::vector<float> probabilities;
  std::vector<double> scores;  // of the patient, one a class

  std::span<const float> of(std::int64_t column) const {
    const std::int64_t voxels = shape[0] * shape[1] * shape[2];
    return std::span<const float>(probabilities).subspan(column * voxels, voxels);
  }
};

// What a volume takes at most on its way through `Segmenter`, apart from what the network needs.
struct SegmenterBytes {
  std::size_t prepare = 0;   // `prepare`, beside the volume that it is given
  std::size_t prepared = 0;  // what it gives
  std::size_t answer = 0;    // `answer`, of up to four windows at once, beside that
  std::size_t answered = 0;  // what it gives
};

// A volume in memory whose axes run to the right, front and head; spacing in mm. A slice has
// shape[2] == 1.
Volume make_volume(const std::array<std::int64_t, 3>& shape, const std::array<double, 3>& spacing,
                   std::vector<float> values);

class Segmenter {
 public:
  // Loads what labelassemble exported of a detection: TorchScript, or an AOTInductor package where
  // the name ends in .pt2. `device` is "cpu", "cuda" or "cuda:N". Throws Error: no such file,
  // another kind of file, a model that answers whole images, no such device.
  explicit Segmenter(const std::filesystem::path& model, const std::string& device = "cpu");
  ~Segmenter();
  Segmenter(Segmenter&&) noexcept;
  Segmenter& operator=(Segmenter&&) noexcept;

  const SegmenterDescription& describe() const noexcept;

  // The volume as the network sees it: turned to the right, front and head, resampled, scaled to
  // 0..1. Throws Error for values that are not finite, or other axes than the network has.
  Volume prepare(Volume volume) const;

  // Logits averaged over the windows, then as probabilities [classes, shape], of a volume as
  // `prepare` gives it; at most `batch` windows go through the network at once (0: what is quickest
  // for their size, four at most). Takes the memory of its answer, of one more channel, and what
  // the network itself needs for them. Safe to call from several threads at once. Throws Error
  // where the network fails or answers what is not finite.
  std::vector<float> probabilities(const Volume& prepared, std::int64_t batch = 0) const;

  // Probabilities and the patient's scores, of a volume as `prepare` gives it. A DecodeGuard of
  // this thread may end it between two calls of the network, as it may `prepare` and the two below.
  Segmentation answer(const Volume& prepared, std::int64_t batch = 0) const;

  // `answer` of what `prepare` makes of a volume. One that is moved in gives up its memory first;
  // what is left of it still says where its voxels lie, for the two below.
  Segmentation segment(Volume volume, std::int64_t batch = 0) const;

  // Bytes that these take for a volume whose values are not looked at. Throws Error where it has
  // too many voxels with the model's spacing, or other axes than the network has.
  SegmenterBytes bytes_for(const Volume& volume) const;

  // The class of every voxel of the volume that was segmented, [volume.shape]: its place from 1 on,
  // that of the highest probability where it is at least describe().threshold, else 0.
  std::vector<std::uint8_t> mask(const Segmentation& answer, const Volume& volume) const;

  // Probabilities of one class on the voxels of the volume that was segmented.
  std::vector<float> on_voxels_of(const Volume& volume, const Segmentation& answer,
                                  std::int64_t column) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace labelassemble
