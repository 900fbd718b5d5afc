"""The answer to a volume file lies on the file's own voxels, whatever their order and size."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.run.segment import Answer, probability_file, volume_scores, write_answer
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import load_case

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("monai")

LPS_OBLIQUE = np.array(
    [[-1.9, 0.2, 0.0, 31.0], [-0.2, -0.9, 0.1, 12.0], [0.0, 0.1, 2.9, -40.0], [0, 0, 0, 1]], np.float64
)
SWAPPED = np.array([[0, 0, 2.0, 5.0], [1.0, 0, 0, -7.0], [0, -1.5, 0, 3.0], [0, 0, 0, 1]], np.float64)


def _volume(folder: Path, affine: NDArray[np.float64]) -> tuple[Path, NDArray[np.bool_]]:
    """Write a volume with one bright box, and return where it is."""
    there = np.zeros((12, 10, 9), np.bool_)
    there[2:7, 3:9, 4:8] = True
    path = folder / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.where(there, 200, -100).astype(np.int16), affine), path)
    return path, there


@pytest.mark.parametrize("affine", [LPS_OBLIQUE, SWAPPED, np.diag([1.0, 1.0, 1.0, 1.0])])
@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0)])
def test_mask_and_map_have_the_shape_affine_and_order_of_the_file(
    tmp_path: Path, affine: NDArray[np.float64], spacing: tuple[float, ...] | None
) -> None:
    path, there = _volume(tmp_path, affine)
    options = VolumeOptions(patch=(16, 16, 16), window=(-100.0, 200.0), spacing=spacing)
    volume = load_case(str(path), options)
    box = volume.image  # what a perfect network would say of the box
    answer = Answer(np.stack([0.4 * box, box, 0.9 * box]).astype(np.float32), volume)
    output = tmp_path / "mask.nii.gz"
    write_answer(answer, output)
    mask, maps = (nibabel.load(file) for file in (output, tmp_path / "mask_probabilities.nii.gz"))
    for written in (mask, maps):
        np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    assert mask.get_data_dtype() == np.uint8
    assert maps.shape == (*there.shape, 3)
    found = np.asarray(mask.dataobj)
    if spacing is None:
        assert np.array_equal(found, 2 * there)
        np.testing.assert_allclose(np.asarray(maps.dataobj)[..., 2], 0.9 * there, atol=1e-6)
    else:  # interpolated twice: borders blur, the place does not
        assert set(np.unique(found)) == {0, 2}
        assert (found[there] == 2).mean() > 0.85
        assert (found[~there] == 0).mean() > 0.97


def test_a_compressed_file_that_is_not_called_so_is_answered(tmp_path: Path) -> None:
    path, there = _volume(tmp_path, LPS_OBLIQUE)
    path = path.rename(tmp_path / "ct.nii")
    volume = load_case(str(path), VolumeOptions(patch=(16, 16, 16), window=(-100.0, 200.0)))
    write_answer(Answer(volume.image[None], volume), tmp_path / "mask.nii.gz")
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(mask.dataobj), there)
    np.testing.assert_allclose(mask.affine, LPS_OBLIQUE, atol=1e-5)


def test_both_forms_of_the_file_go_into_the_answer(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((12, 10, 9), np.int16), np.diag([1.0, 2.0, 3.0, 1.0]))
    shifted = np.diag([1.0, 2.0, 3.0, 1.0])
    shifted[:3, 3] = (30, -20, 5)
    image.set_sform(image.affine, 2)
    image.set_qform(shifted, 1)
    nibabel.save(image, tmp_path / "ct.nii.gz")
    volume = load_case(str(tmp_path / "ct.nii.gz"), VolumeOptions(patch=(8, 8, 8)))
    write_answer(Answer(volume.image[None], volume), tmp_path / "mask.nii.gz")
    for name in ("mask.nii.gz", "mask_probabilities.nii.gz"):
        written = nibabel.load(tmp_path / name)
        np.testing.assert_array_equal(written.get_sform(), image.affine)
        np.testing.assert_allclose(written.get_qform(), shifted)
        assert (written.header["sform_code"], written.header["qform_code"]) == (2, 1)


@pytest.mark.parametrize("shape", [(12, 10, 9), (12, 10)])
def test_a_file_without_a_form_is_answered_by_one_without(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = nibabel.Nifti1Image(np.zeros(shape, np.int16), None)
    image.header["pixdim"][1:3] = (0.7, 0.8)
    nibabel.save(image, tmp_path / "ct.nii.gz")
    volume = load_case(str(tmp_path / "ct.nii.gz"), VolumeOptions(patch=(8,) * len(shape)))
    probabilities = np.zeros((1, *volume.image.shape), np.float32)
    write_answer(Answer(probabilities, volume), tmp_path / "mask.nii.gz")
    for name in ("mask.nii.gz", "mask_probabilities.nii.gz"):
        written = nibabel.load(tmp_path / name)
        assert (written.header["sform_code"], written.header["qform_code"]) == (0, 0)
        np.testing.assert_allclose(written.affine, nibabel.load(tmp_path / "ct.nii.gz").affine)


def test_a_slice_is_a_volume_of_one(tmp_path: Path) -> None:
    pixels = np.zeros((8, 12), np.uint8)
    pixels[2:4, 5:9] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    volume = load_case(str(tmp_path / "a.png"), VolumeOptions(patch=(8, 8), window=(0.0, 255.0)))
    write_answer(Answer(volume.image[None], volume), tmp_path / "a.nii")
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)[..., 0], pixels > 0)
    assert nibabel.load(tmp_path / "a_probabilities.nii").shape == (8, 12, 1, 1)


def test_the_score_of_a_volume_is_the_mean_over_its_slices_of_their_highest_voxels() -> None:
    probabilities = np.zeros((2, 10, 10, 3), np.float32)
    probabilities[0, 4, 4, 1], probabilities[0, 5, 5, 1], probabilities[0, 0, 0, 2] = 0.9, 0.5, 0.3
    options = DetectionOptions(top=0.02)
    np.testing.assert_allclose(volume_scores(probabilities, options), [(0.7 + 0.15) / 3, 0], atol=1e-7)
    highest = options.model_copy(update={"patient_score": "maximum"})
    np.testing.assert_allclose(volume_scores(probabilities, highest), [0.7, 0], atol=1e-7)


def test_a_mask_is_a_nifti_file() -> None:
    assert probability_file(Path("out/a.b.nii.gz")) == Path("out/a.b_probabilities.nii.gz")
    for name in ("mask.png", "mask", ".nii.gz"):
        with pytest.raises(LabelAssembleError, match=r"must end in \.nii\.gz"):
            probability_file(Path(name))
