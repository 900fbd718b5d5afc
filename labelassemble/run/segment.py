"""The answer to a volume file: a mask and a map of probabilities on the file's own voxels."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from labelassemble._files import atomic_path
from labelassemble._validation import validation_sentence
from labelassemble._yaml import read_mapping
from labelassemble.data.volumes import is_nifti_name, nifti_header
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.detection_case import slice_scores
from labelassemble.models.segmentation.predict_volume import predict_volume
from labelassemble.run.folder import TrainedSegmenter
from labelassemble.views.volumes import Volume, load_case, to_stored

_ENDINGS = (".nii.gz", ".nii")
_PLACE = (
    *("xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


class Answer(NamedTuple):
    """What a network says of a volume.

    Attributes:
        probabilities: at every voxel that the network saw, float32 [C, *s].
        volume: as the network saw it, with the way back to the file's voxels.
    """

    probabilities: NDArray[np.float32]
    volume: Volume


def answer_volume(trained: TrainedSegmenter, path: str) -> Answer:
    """Return what the network says of the volume or slice at `path`.

    Raises:
        ImageError: it cannot be read, see `load_case`.
        LabelAssembleError: an answer that is not finite.
    """
    volume = load_case(path, trained.volumes)
    image = torch.from_numpy(np.ascontiguousarray(volume.image))[None]
    return Answer(predict_volume(trained.net, image, trained.volumes, name=path).numpy(), volume)


def detection_options(run: Path) -> DetectionOptions:
    """Return how a run's configuration scores patients and cuts off probabilities.

    Raises:
        LabelAssembleError: no config.yaml, or one whose section `detection` is wrong.
    """
    path = run / "config.yaml"
    section = read_mapping(path).get("detection")
    try:
        return DetectionOptions.model_validate({} if section is None else section)
    except ValidationError as error:
        raise LabelAssembleError(
            f"{path}: detection: {validation_sentence(error, DetectionOptions)}"
        ) from None


def volume_scores(probabilities: NDArray[np.float32], options: DetectionOptions) -> NDArray[np.float64]:
    """Return the score of each class, float64 [C], as that of a patient of this one volume.

    Args:
        probabilities: float32 [C, *s], the last of three axes counts the slices.
        options: how slices make up a score.
    """
    slices = np.stack([slice_scores(one, options.top) for one in probabilities])
    scores: NDArray[np.float64] = (
        slices.max(axis=1) if options.patient_score == "maximum" else slices.mean(axis=1)
    )
    return scores


def probability_file(output: Path) -> Path:
    """Return where the map of probabilities goes that belongs to a mask: "a_probabilities.nii.gz" to "a.nii.gz".

    Raises:
        LabelAssembleError: the mask is to be no NIfTI file.
    """
    for ending in _ENDINGS:
        if output.name.endswith(ending) and output.name != ending:
            return output.with_name(f"{output.name.removesuffix(ending)}_probabilities{ending}")
    raise LabelAssembleError(f"{output}: the mask of a volume is a NIfTI file: its name must end in .nii.gz")


def drawn_classes(maps: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Return the mask [*s] of maps of probabilities [C, *s], C at most 255.

    k is the k-th class: where several reach the threshold, the one with the highest probability; 0 where none does.
    """
    mask: NDArray[np.uint8] = np.where(maps.max(axis=0) >= threshold, maps.argmax(axis=0) + 1, 0).astype(
        np.uint8
    )
    return mask


def write_answer(answer: Answer, output: Path, *, threshold: float = 0.5) -> NDArray[np.uint8]:
    """Write the mask and beside it the map of probabilities, and return the mask.

    Both have the shape, the affine and the order of axes of the file that was answered, a slice as a volume of one;
    where that says nothing of millimetres (image files, NumPy archives) a voxel is 1 mm. In the mask k is the k-th
    class: where several reach the threshold, the one with the highest probability; 0 where none does. The map is
    float32 with a class along the last axis.

    Raises:
        LabelAssembleError: a file cannot be written, or has another ending than .nii.gz or .nii; more than 255 classes.
    """
    if len(answer.probabilities) > 255:
        raise LabelAssembleError(f"{output}: a mask has 255 classes at most, got {len(answer.probabilities)}")
    maps = to_stored(answer.probabilities, answer.volume)
    mask = drawn_classes(maps, threshold)
    affine = answer.volume.stored.affine
    affine = np.eye(4) if affine is None else affine
    if mask.ndim == 2:  # a slice is a volume of one
        mask, maps = mask[..., None], maps[..., None]
    _write(probability_file(output), np.moveaxis(maps, 0, -1), affine, answer.volume.path)
    _write(output, mask, affine, answer.volume.path)
    return mask


def _place_as(header: Any, stored: Any) -> None:
    """Give a header both forms of another one, so that every reader, whichever it follows, puts both into one place."""
    header["pixdim"][:4] = stored["pixdim"][:4]
    for field in _PLACE:
        header[field] = stored[field]


def _write(path: Path, values: NDArray[np.generic], affine: NDArray[np.float64], like: str) -> None:
    import nibabel

    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    if is_nifti_name(like):
        _place_as(image.header, nifti_header(like))
    ending = next(ending for ending in _ENDINGS if path.name.endswith(ending))
    with atomic_path(
        path, unfinished=path.with_name(f".{path.name.removesuffix(ending)}.new{ending}")
    ) as new:
        nibabel.save(image, new)
