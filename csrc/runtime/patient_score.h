// What a volume's voxels say of the patient, as labelassemble/evaluation/detection_case.py has it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace labelassemble {

// Of one class, [shape], whose last axis counts the slices (a slice has shape[2] == 1): the mean
// over the slices, or their maximum, of the mean of a slice's `top` share of voxels, those of the
// highest probability, at least one.
double patient_score(std::span<const float> probabilities, const std::array<std::int64_t, 3>& shape,
                     double top, bool maximum);

// Memory that this takes.
std::size_t patient_score_bytes(const std::array<std::int64_t, 3>& shape);

}  // namespace labelassemble
