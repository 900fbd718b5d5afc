// Volumes with their place in the patient, and reading and writing them as NIfTI-1 (.nii, .nii.gz).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace labelassemble {

// Larger volumes are refused before anything is allocated for them: 4 GiB of values.
inline constexpr std::int64_t kMaxVolumeVoxels = std::int64_t{1} << 30;

// Voxel (i, j, k) lies at affine (i, j, k, 1), in millimetres to the patient's right, front and
// head. Row by row; the last row is 0 0 0 1.
using Affine = std::array<double, 16>;

// A grid of values, values[(i * shape[1] + j) * shape[2] + k]. A slice has shape[2] == 1.
struct Volume {
  std::array<std::int64_t, 3> shape{};
  Affine affine{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  std::vector<float> values;
  // The header of the file that it was read from, as it stood there.
  std::optional<std::array<std::uint8_t, 348>> header;

  std::int64_t voxels() const { return shape[0] * shape[1] * shape[2]; }
};

// The volume in a NIfTI-1 file of one volume, in either byte order, of int8 to float64, compressed
// by gzip or not. Values and affine are those of nibabel: scaled by scl_slope and scl_inter, and
// placed by the sform, else by the qform, else by pixdim. Throws Error: no such file, another
// format, several volumes, values that are not numbers, a sform and a qform that give the voxels
// other sizes or turn their axes to other sides, or a damaged or truncated file.
Volume read_nifti(const std::filesystem::path& path);

// The same for a file's bytes in memory; `name` stands for the path in messages.
Volume read_nifti(std::span<const std::uint8_t> file, const std::string& name);

// Writes values [shape] uint8 (a mask) or [volumes, shape] float as a file of the place of `like`,
// compressed where the name ends in .gz. The file appears whole or not at all. Throws Error where
// it cannot be written.
void write_nifti(const std::filesystem::path& path, const Volume& like,
                 std::span<const std::uint8_t> mask);
void write_nifti(const std::filesystem::path& path, const Volume& like,
                 std::span<const float> values, std::int64_t volumes);

// The bytes of a .nii.gz as `write_nifti` writes it: of a mask, or of `volumes` volumes, of which
// `values` gives one after the other, [like.shape].
std::string encode_nifti(const Volume& like, std::span<const std::uint8_t> mask);
std::string encode_nifti(const Volume& like, std::int64_t volumes,
                         const std::function<std::vector<float>(std::int64_t)>& values);

// Memory that encoding volumes of so many bytes each takes at most, the file among it.
std::size_t encode_nifti_bytes(std::size_t volume, std::size_t volumes = 1) noexcept;

// Whether a name ends as NIfTI files do: .nii or .nii.gz, in either case.
bool is_nifti_name(const std::filesystem::path& path);

// Whether this build reads NIfTI: it needs zlib.
bool reads_nifti() noexcept;

}  // namespace labelassemble
