"""Files that hold a whole stack of small images: NumPy archives, MNIST's idx files, CIFAR's batches."""

import gzip
import pickle
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.errors import without_objects
from labelassemble.errors import LabelAssembleError

_IN_MEMORY: Final = 1 << 30
_CIFAR_RECORD: Final = 1 + 3 * 32 * 32


def load_npz_array(path: Path, name: str) -> NDArray[Any]:
    """Return the array `name` of a NumPy archive, in its own dtype.

    A member that is stored uncompressed is mapped, not read; a compressed one is held in memory whole up to 1 GiB, and
    above that (MedMNIST at 224 pixels) unpacked to the folder for temporary files and mapped from there.

    Raises:
        LabelAssembleError: The file is missing, damaged or lacks the array.
    """
    try:
        mapped = _mapped_member(path, f"{name}.npy")
        if mapped is not None:
            return mapped
        with np.load(path, allow_pickle=False) as archive:
            array: NDArray[Any] = archive[name]
        return array
    except KeyError:
        raise LabelAssembleError(f"{path}: the archive has no array '{name}'") from None
    except Exception as error:  # damage comes as nearly every type there is
        raise LabelAssembleError(f"{path}: cannot be read as a NumPy archive ({_reason(error)})") from None


class JoinedFiles:
    """The bytes of many encoded images, one after the other.

    Args:
        data: uint8, all files joined.
        offsets: [N + 1], where each begins, and the end.
    """

    def __init__(self, data: NDArray[np.uint8], offsets: NDArray[np.integer[Any]]) -> None:
        self._data, self._offsets = data, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self._data[self._offsets[index] : self._offsets[index + 1]].tobytes()


def load_joined_files(path: Path, name: str) -> JoinedFiles:
    """Return the files whose bytes are the array `name` of a NumPy archive, divided by its array `offsets`.

    Raises:
        LabelAssembleError: The file is missing or damaged, lacks an array, or the offsets do not fit.
    """
    data, offsets = load_npz_array(path, name), load_npz_array(path, "offsets")
    if (
        offsets.ndim != 1
        or len(offsets) < 2
        or offsets[0] != 0
        or (np.diff(offsets.astype(np.int64)) < 0).any()
    ):
        raise LabelAssembleError(
            f"{path}: offsets must rise from 0, got {offsets.dtype} {list(offsets.shape)}"
        )
    if offsets[-1] != len(data):
        raise LabelAssembleError(
            f"{path}: offsets must end at the {len(data)} bytes of {name}, got {offsets[-1]}"
        )
    return JoinedFiles(data, offsets)


def npz_names(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays in a NumPy archive.

    Raises:
        LabelAssembleError: The file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())
    except Exception as error:  # damage comes as nearly every type there is
        raise LabelAssembleError(f"{path}: cannot be read as a NumPy archive ({_reason(error)})") from None


def npz_header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype of the array `name` without reading the array.

    Raises:
        LabelAssembleError: The file is missing, damaged or lacks the array.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            shape, _, dtype = _read_header(member)
            return shape, dtype
    except Exception as error:  # damage comes as nearly every type there is
        raise LabelAssembleError(f"{path}: cannot be read as a NumPy archive ({_reason(error)})") from None


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _mapped_member(path: Path, member: str) -> NDArray[Any] | None:
    """Return a member of a zip file mapped into memory; None where it is compressed and small, to be read whole."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            if info.file_size <= _IN_MEMORY:
                return None
            with tempfile.TemporaryFile() as unpacked:  # it has no name: it vanishes with the array
                with archive.open(info) as packed:
                    shutil.copyfileobj(packed, unpacked, 1 << 24)
                unpacked.seek(0)
                return _mapped(unpacked)
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # the local header's own lengths; the directory's may differ
        name_length, extra_length = struct.unpack("<HH", file.read(4))
        file.seek(name_length + extra_length, 1)
        return _mapped(file)


def _mapped(file: IO[bytes]) -> NDArray[Any] | None:
    """Return the array whose header starts at the position of `file`, mapped; None where that cannot be."""
    shape, fortran, dtype = _read_header(file)
    if dtype.hasobject or not np.prod(shape):
        return None
    return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def load_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of an idx file of unsigned bytes, plain or gzip (LeCun's format of MNIST).

    Raises:
        LabelAssembleError: The file is missing, damaged, of another type, or shorter or longer than it says.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, dimensions = struct.unpack_from(">HBB", data)
        if zero != 0 or kind != 0x08 or not 1 <= dimensions <= 4:
            raise LabelAssembleError(
                f"{path}: not an idx file of unsigned bytes (it starts with {data[:4].hex()})"
            )
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
        pixels = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions)
    except LabelAssembleError:
        raise
    except Exception as error:  # damage comes as nearly every type there is
        raise LabelAssembleError(f"{path}: cannot be read as an idx file ({_reason(error)})") from None
    count = 1
    for size in shape:
        count *= size
    if count != len(pixels):
        raise LabelAssembleError(
            f"{path}: must hold {' x '.join(map(str, shape))} bytes by its header, got {len(pixels)}"
        )
    return pixels.reshape(shape)


class CifarBatch(NamedTuple):
    """One of CIFAR-10's python batches."""

    pixels: NDArray[np.uint8]
    """RGB, uint8 [N, 3, 32, 32]."""
    labels: NDArray[np.int64]
    """Class of each image, int64 [N]."""
    names: tuple[str, ...]
    """Name of each image."""


def load_cifar_batch(path: Path) -> CifarBatch:
    """Return the content of `data_batch_N` or `test_batch` of CIFAR-10's python version, with `.bin` of its binary one.

    The former are pickles; nothing but arrays is let out of them, so that a manipulated one cannot run code.

    Raises:
        LabelAssembleError: The file is missing, damaged, or not such a batch.
    """
    if path.suffix == ".bin":
        return _binary_batch(path)
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
        data = content["data"]
        labels = np.array(content["labels"], dtype=np.int64)
        names = tuple(str(name) for name in content["filenames"])
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
            raise LabelAssembleError(
                f"{path}: data must be uint8 [N, 3072], got {data.dtype} {list(data.shape)}"
            )
        if labels.shape != (len(data),) or len(names) != len(data):
            raise LabelAssembleError(
                f"{path}: must have a label and a name per image ({len(data)}), got {len(labels)} and {len(names)}"
            )
    except LabelAssembleError:
        raise
    except Exception as error:  # damage comes as nearly every type there is
        raise LabelAssembleError(
            f"{path}: cannot be read as a batch of CIFAR-10 ({_reason(error)})"
        ) from None
    return CifarBatch(data.reshape(-1, 3, 32, 32), labels, names)


def _binary_batch(path: Path) -> CifarBatch:
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise LabelAssembleError(f"{path}: cannot be read ({_reason(error)})") from None
    if not len(data) or len(data) % _CIFAR_RECORD:
        raise LabelAssembleError(f"{path}: must be records of {_CIFAR_RECORD} bytes, got {len(data)} bytes")
    records = data.reshape(-1, _CIFAR_RECORD)
    names = tuple(str(index) for index in range(len(records)))
    return CifarBatch(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64), names)


class _ArraysOnly(pickle._Unpickler):
    """An unpickler that knows numpy arrays and nothing else.

    The one written in Python: in a damaged file, the one in C takes gigabytes of memory for an index that is too great.
    """

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it holds {f'{module}.{name}'!r}, which no such batch does")
        return allowed[module, name]


_reconstruct: Final[Callable[..., Any]] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]


def _dtype(code: str, align: int = 0, copy: int = 0) -> np.dtype[Any]:
    return np.dtype(
        code, align=bool(align), copy=bool(copy)
    )  # old pickles give 0 and 1, which numpy 2.4 warns of


def _encode(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or without_objects(str(error)) or type(error).__name__
