"""Volumes and slices as their files hold them: intensities, and where each voxel lies in the body.

| what | path |
|---|---|
| NIfTI | `a.nii`, `a.nii.gz` |
| DICOM series | the folder with its files, and no other series' |
| slice | an image file, or a DICOM file of one frame |
| array of a NumPy archive | `cases.npz::case001` |
| entry of a stack in a NumPy archive | `train.npz::images::17`; also of encoded files joined, `train.npz::jpeg::17` |

NumPy archives and image files know nothing of millimetres and sides: their affine is None.
"""

import gzip
import logging
import math
import os
import weakref
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelassemble.data.containers import SEPARATOR, is_reference, read_array
from labelassemble.data.decoding import Decoding, as_stored, split_reference
from labelassemble.data.dicom import is_dicom
from labelassemble.data.dicom_series import read_series, read_slice, series_grid, slice_grid
from labelassemble.data.errors import ImageError, PluginError, reason_of
from labelassemble.data.grid import Grid, check_forms
from labelassemble.data.images import inspect_bytes, pillow_turns, read_image
from labelassemble.data.stacks import load_joined_files, npz_header, npz_names
from labelassemble.errors import LabelAssembleError

_NIFTI: Final = (".nii", ".nii.gz")
_LARGEST_RATIO: Final = 1040  # zlib inflates no byte to more than this
_MOST_AXES: Final = 7  # of NIfTI
_LAST_CODE: Final = 5  # of a form of NIfTI: what it is aligned to
_UNITS: Final = {1: "metres", 3: "micrometres"}  # of xyzt_units
_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as for images


class StoredVolume(NamedTuple):
    """A volume or a slice as it is stored.

    Attributes:
        values: [*s] of 2 or 3 axes, in the dtype of the file, or float32 after its slope and intercept.
        affine: from voxel indices to millimetres to the right, front and top (RAS), float64 [4, 4]; None where the file
            does not say.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64] | None


def read_volume(path: str) -> StoredVolume:
    """Return the intensities at `path` (see the table above), colour as luma.

    Raises:
        ImageError: The file is missing, empty, damaged, of another kind, or has not 2 or 3 axes.
    """
    name, how = split_reference(path)
    try:
        if is_reference(name):
            entry = read_array(name)
            return StoredVolume(_slice(entry, name, how) if isinstance(entry, bytes) else entry, None)
        if os.path.isdir(name):
            return _placed(StoredVolume(*read_series(name, how.bits)), name)
        if is_nifti_name(name):
            image = _nifti(name)
            return StoredVolume(_squeezed(np.asanyarray(image.dataobj), name), _affine(image, name))
        _check_one(name)
        data = read_image(name)
        assert isinstance(data, bytes)  # only members of containers are arrays
        if is_dicom(BytesIO(data)):
            return _placed(StoredVolume(*read_slice(data, name, how.bits)), name)
        return StoredVolume(_slice(data, name, how), None)
    except LabelAssembleError:
        raise
    except MemoryError:
        raise LabelAssembleError(f"{path}: does not fit into the memory that is free") from None
    except Exception as error:  # decoders answer damage with nearly every type there is
        raise ImageError(path, f"damaged or cut off ({reason_of(error)})") from None


def read_grid(path: str) -> Grid:
    """Return shape and place of the volume at `path`, from its headers alone.

    Raises:
        ImageError: As `read_volume`.
    """
    name, _ = split_reference(path)
    try:
        if is_reference(name):
            return Grid(_shape_inside(name), None)
        if os.path.isdir(name):
            return _placed(series_grid(name), name)
        if is_nifti_name(name):
            image = _nifti(name)
            return Grid(_three_axes(tuple(image.shape), name), _affine(image, name))
        _check_one(name)
        data = read_image(name)
        assert isinstance(data, bytes)
        return (
            _placed(slice_grid(data, name), name)
            if is_dicom(BytesIO(data))
            else Grid(_picture_shape(data), None)
        )
    except LabelAssembleError:
        raise
    except MemoryError:
        raise LabelAssembleError(f"{path}: does not fit into the memory that is free") from None
    except Exception as error:
        raise ImageError(path, f"damaged or cut off ({reason_of(error)})") from None


def _check_one(name: str) -> None:
    """Raise for a file of many: which of them is meant, nobody said."""
    if name.lower().endswith(".npz"):
        arrays = npz_names(Path(name))
        shown = f"{name}{SEPARATOR}{arrays[0] if arrays else 'images'}"
        raise ImageError(
            name,
            f"an archive of several arrays: name the one that is meant, as {shown}, or of a stack one entry, as "
            f"{shown}{SEPARATOR}0",
        )


def is_nifti_name(name: str) -> bool:
    """Return whether a path ends as NIfTI files do, in either case."""
    return name.lower().endswith(_NIFTI)


def nifti_header(name: str) -> Any:
    """Return the header of a NIfTI file, as nibabel has it.

    Raises:
        ImageError: The file is missing, empty, damaged or of another kind.
    """
    return _nifti(name).header


def _nifti(name: str) -> Any:
    """Return a NIfTI file whose header has been read."""
    try:
        nibabel = import_module("nibabel")
    except ImportError:
        raise PluginError(name, "needs nibabel: pip install 'labelassemble[ct]'") from None
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what it mends of a header is judged here
    try:
        if os.path.getsize(name) == 0:
            raise ImageError(name, "the file is empty")
        with np.errstate(invalid="ignore"):  # of a place that is none, which is told below
            image = _loaded(nibabel, name)
    except OSError as error:
        raise ImageError(name, f"cannot be opened ({error.strerror or error})") from None
    except nibabel.filebasedimages.ImageFileError as error:
        raise ImageError(name, f"not a NIfTI file, or damaged ({reason_of(error)})") from None
    if min(image.shape, default=1) < 1:
        raise ImageError(name, f"damaged: its size is {' x '.join(map(str, image.shape))}")
    needed = math.prod(image.shape) * image.get_data_dtype().itemsize
    size = os.path.getsize(name) * (_LARGEST_RATIO if _is_compressed(name) else 1)
    if needed + int(image.header.get_data_offset()) > size:  # before memory is taken for it
        raise ImageError(
            name,
            f"damaged or cut off (its header tells of {needed} bytes of values, and the file is too short for them)",
        )
    return image


def _loaded(nibabel: Any, name: str) -> Any:
    """Return a NIfTI file, compressed or not, whichever of the two its name says."""
    compressed = _is_compressed(name)
    if compressed == name.lower().endswith(".gz"):
        return nibabel.load(name)
    stream = gzip.open(name) if compressed else open(name, "rb")  # noqa: SIM115  the image reads it later
    try:
        image = nibabel.Nifti1Image.from_stream(stream)
    except Exception:
        stream.close()
        raise
    weakref.finalize(image, stream.close)
    return image


def _is_compressed(name: str) -> bool:
    with open(name, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _affine(image: Any, name: str) -> NDArray[np.float64]:
    """Return where the voxels lie, by the sform or else the qform of the header.

    Raises:
        ImageError: It is no place: not finite, or voxels without an extent; it is in another unit; or both forms are
            given and contradict each other, see `check_forms`.
    """
    unit = int(image.header["xyzt_units"]) & 7
    if unit in _UNITS:
        raise ImageError(name, f"its header says that lengths are in {_UNITS[unit]}, and mm are read")
    header, stored = image.header, _stored_header(image)
    _check_start(stored, name)
    if not 1 <= int(stored["dim"][0]) <= _MOST_AXES:
        raise ImageError(name, f"damaged: its header says that it has {int(stored['dim'][0])} axes")
    for field in ("sform_code", "qform_code"):
        if (
            not 0 <= int(stored[field]) <= _LAST_CODE
        ):  # of which nibabel makes 0, and a place that nobody said
            raise ImageError(
                name, f"damaged: its {field} is {int(stored[field])}, and NIfTI knows 0 to {_LAST_CODE}"
            )
    unsized = _axis_without_size(image, stored)
    if unsized and not header["sform_code"] > 0:
        raise ImageError(name, f"its voxels have no size along axis {unsized} (pixdim), and it has no sform")
    affine = np.asarray(image.affine, dtype=np.float64)
    _check_place(affine, name)
    if header["sform_code"] > 0 and header["qform_code"] > 0 and not unsized:
        try:
            qform = header.get_qform()
        except ValueError:  # a quaternion longer than 1 is no form
            return affine
        if np.isfinite(qform).all():
            check_forms(name, affine, qform)
    return affine


def _check_start(stored: Any, name: str) -> None:
    """Raise where the header is not that of one file, or says that the values begin within it."""
    if bytes(stored["magic"][()]).startswith(b"ni"):
        raise ImageError(
            name, "a NIfTI header whose values are in another file (.hdr and .img); one file (.nii) is read"
        )
    if int(stored["sizeof_hdr"]) != stored.template_dtype.itemsize:
        raise ImageError(name, f"damaged: its header says that it has {int(stored['sizeof_hdr'])} bytes")
    start = float(stored["vox_offset"])
    if not start >= stored.single_vox_offset:  # at 0 nibabel reads the header's own bytes as voxels
        raise ImageError(name, f"damaged: its values begin at byte {start:g}")


def _stored_header(image: Any) -> Any:
    """Return the header as the file has it, before nibabel mends it."""
    with image.file_map["image"].get_prepare_fileobj("rb") as file:
        file.seek(0)
        return type(image.header).from_fileobj(file, check=False)


def _axis_without_size(image: Any, header: Any) -> int:
    """Return the first axis of several voxels whose size in the file is 0 or not finite, 1 to 3; 0 where none is.

    nibabel makes a size of 0 one of 1 mm, which nobody said.
    """
    stored = header["pixdim"][1:4]
    for axis, (size, voxels) in enumerate(zip(stored, image.shape, strict=False), start=1):
        if voxels > 1 and (size == 0 or not np.isfinite(size)):
            return axis
    return 0


def _check_place(affine: NDArray[np.float64], name: str) -> None:
    """Raise where an affine is no place: not finite, or voxels without an extent."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(affine[:3, :3], axis=0).prod()  # 1e-6 of it: two axes of one direction
        extent = abs(np.linalg.det(affine[:3, :3])) >= max(1e-6 * lengths, 1e-12)
    if not np.isfinite(affine).all() or not extent:
        raise ImageError(
            name, "the header gives the voxels no place (its affine is not finite, or has no extent)"
        )


Placed = TypeVar("Placed", StoredVolume, Grid)


def _placed(found: Placed, name: str) -> Placed:
    """Return a volume whose affine, where it has one, is a place."""
    if found.affine is not None:
        _check_place(found.affine, name)
    return found


def _three_axes(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Return a shape without axes of length 1 behind the third."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3):
        raise ImageError(name, f"a volume must have 2 or 3 axes, got {list(shape)}")
    return shape


def _squeezed(values: NDArray[Any], name: str) -> NDArray[Any]:
    return values.reshape(_three_axes(values.shape, name))


def _slice(data: bytes, name: str, how: Decoding) -> NDArray[Any]:
    """Return an encoded image as [H, W]: 16 bits and floating point as stored, all else in 0..255.

    Raises:
        ImageError: It cannot be decoded, or would be turned by its EXIF orientation, which its mask would not be.
    """
    with Image.open(BytesIO(data)) as image:
        turned = pillow_turns(image)
        deep = image.mode in ("F", "I") or image.mode.startswith("I;16")
        stored = as_stored(np.asarray(image), turned) if deep else None
        floating = image.mode == "F"  # which is no image elsewhere
    if floating:
        orientation = 1 if how.orientation == "ignore" else turned
    else:
        found = inspect_bytes(data, name, how)
        orientation = found.orientation
    if orientation != 1:
        raise ImageError(
            name,
            f"its EXIF orientation {orientation} turns it, and would not turn its mask: say `orientation: "
            "ignore` if the mask was drawn on the image as it is stored, or else save the image upright",
        )
    if stored is not None:
        return stored
    pixels = found.pixels
    return pixels[0] if len(pixels) == 1 else np.tensordot(_LUMA, pixels.astype(np.float32), 1)


def _picture_shape(data: bytes) -> tuple[int, ...]:
    """Return height and width of an image as it is stored."""
    with Image.open(BytesIO(data)) as image:
        return (image.width, image.height) if pillow_turns(image) >= 5 else (image.height, image.width)


def _shape_inside(name: str) -> tuple[int, ...]:
    """Return what `_member_shape` does; a damaged container is an image that cannot be read."""
    try:
        return _member_shape(name)
    except ImageError:
        raise
    except LabelAssembleError as error:
        raise ImageError(name, str(error).removeprefix(f"{name.partition(SEPARATOR)[0]}: ")) from None


def _member_shape(name: str) -> tuple[int, ...]:
    """Return the shape of an array or an entry inside a container, without reading an archive's arrays."""
    container, _, member = name.partition(SEPARATOR)
    array, stacked, _ = member.rpartition(SEPARATOR)
    if not container.endswith(".npz") or (stacked and "offsets" in npz_names(Path(container))):
        entry = read_array(name)
        return _picture_shape(entry) if isinstance(entry, bytes) else entry.shape
    shape, _ = npz_header(Path(container), array if stacked else member)
    return shape[1:] if stacked else shape


def entries(path: Path, array: str) -> int:
    """Return how many entries a stack of a NumPy archive has: images, or encoded files joined.

    Raises:
        LabelAssembleError: The archive is missing, damaged or lacks the array.
    """
    if "offsets" in npz_names(path):
        return len(load_joined_files(path, array))
    return npz_header(path, array)[0][0]
