"""Fingerprints of images: of the bytes, and of the looks."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelassemble.data.containers import is_reference, read_entry
from labelassemble.data.decoding import plain_paths
from labelassemble.data.errors import ImageError
from labelassemble.data.grid import turned_to_ras
from labelassemble.data.images import decode_image
from labelassemble.data.text import TextArray
from labelassemble.data.volumes import StoredVolume, read_volume

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (images done, images in all)."""

_SIDE: Final = 16  # the difference hash has 16 x 16 bits
_NEAR: Final = 8  # bits that two hashes of alike images may differ in
_BLOCK: Final = 32  # images a task
_K = TypeVar("_K")
_T = TypeVar("_T")


def each_image(
    paths: Sequence[_K], work: Callable[[_K], _T], workers: int, progress: Progress | None
) -> list[_T]:
    """Return `work(path)` for each path, in order, by several threads (decoding and hashing release the GIL)."""
    results: list[_T] = []
    blocks = [paths[first : first + _BLOCK] for first in range(0, len(paths), _BLOCK)]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for block in pool.map(lambda block: [work(path) for path in block], blocks):
                results.extend(block)
                if progress is not None:
                    progress(len(results), len(paths))
        except BaseException:  # such as an interrupt: do not finish what waits
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def content_fingerprints(
    paths: TextArray, workers: int = 1, progress: Progress | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (a number that equal files share [N], whether the file could not be read [N]).

    Only files of equal size are read; members of containers, and the files of folders, always.
    """
    paths = plain_paths(paths)
    sizes = np.full(len(paths), -1, dtype=np.int64)
    failed = np.zeros(len(paths), dtype=np.bool_)
    for row, path in enumerate(paths.tolist()):
        try:
            sizes[row] = -2 if is_reference(path) or os.path.isdir(path) else os.stat(path).st_size
        except (OSError, ValueError):
            failed[row] = True
    _, code, count = np.unique(sizes, return_inverse=True, return_counts=True)
    read = np.flatnonzero(((count[code] > 1) | (sizes == -2)) & ~failed)
    digests = each_image(paths[read].tolist(), _digest, workers, progress)
    numbers = np.arange(len(paths))
    first_with: dict[bytes, int] = {}
    for row, digest in zip(read.tolist(), digests, strict=True):
        if digest is None:
            failed[row] = True
        else:
            numbers[row] = first_with.setdefault(digest, row)
    return numbers, failed


def _digest(path: str) -> bytes | None:
    try:
        if is_reference(path):
            member = read_entry(path)
            if isinstance(member, bytes):
                return hashlib.sha256(member).digest()
            return hashlib.sha256(str(member.shape).encode() + member.tobytes()).digest()
        if os.path.isdir(path):
            return _folder_digest(path)
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, ImageError):
        return None


def _folder_digest(path: str) -> bytes | None:
    """Return a fingerprint of the files in a folder of DICOM slices, whatever they are called; None without a file."""
    digests = []
    for name in os.listdir(path):
        if os.path.isfile(file_path := os.path.join(path, name)):
            with open(file_path, "rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").digest())
    return hashlib.sha256(b"".join(sorted(digests))).digest() if digests else None


def picture_hashes(
    paths: TextArray, workers: int = 1, progress: Progress | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return (a 256-bit difference hash of each image, uint8 [N, 32]; whether it could not be decoded [N])."""
    hashes = each_image(paths.tolist(), _picture_hash, workers, progress)
    failed = np.array([item is None for item in hashes], dtype=np.bool_)
    blank = np.zeros(_SIDE * _SIDE // 8, dtype=np.uint8)
    rows = [blank if item is None else item for item in hashes]
    return np.array(rows, dtype=np.uint8).reshape(len(rows), len(blank)), failed


def _picture_hash(path: str) -> NDArray[np.uint8] | None:
    try:
        pixels = decode_image(path)
    except ImageError:
        try:
            pixels = _middle_slice(_upright(read_volume(path)))
        except ImageError:
            return None
    grey = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.mean(axis=0).round().astype(np.uint8))
    small = np.asarray(grey.resize((_SIDE + 1, _SIDE), Image.Resampling.BOX), dtype=np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1])


def _upright(volume: StoredVolume) -> NDArray[Any]:
    """Return a volume whose axes run to the right, front and top, whichever way its file has them."""
    values, affine = volume
    if affine is None or values.ndim != 3:
        return values
    return turned_to_ras(values, affine)[0]


def _middle_slice(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the slice in the middle of a volume, its own range as grey, uint8 [1, H, W]."""
    shown = (values if values.ndim == 2 else values[:, :, values.shape[2] // 2]).astype(np.float32)
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    grey: NDArray[np.uint8] = np.nan_to_num((shown - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    return grey[None]


def near_pairs(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return pairs of rows whose hashes differ in 8 bits or less, int64 [P, 2]; each near row is in one of them.

    Two hashes of 9 pieces that differ in 8 bits agree in a piece at least: only rows that share one are compared.
    """
    if not len(hashes):
        return np.empty((0, 2), dtype=np.int64)
    distinct, first, code = np.unique(hashes, axis=0, return_index=True, return_inverse=True)
    code = code.reshape(-1)
    same = np.flatnonzero(first[code] != np.arange(len(hashes)))
    pairs = [np.stack([first[code[same]], same], axis=1)]
    bits = np.unpackbits(distinct, axis=1)
    for piece in np.array_split(np.arange(bits.shape[1]), _NEAR + 1):
        _, bucket = np.unique(np.packbits(bits[:, piece], axis=1), axis=0, return_inverse=True)
        order = np.argsort(bucket.reshape(-1), kind="stable")
        edges = np.flatnonzero(np.diff(bucket.reshape(-1)[order])) + 1
        for rows in np.split(order, edges):
            for place, row in enumerate(rows[:-1]):
                later = rows[place + 1 :]
                near = later[(bits[later] != bits[row]).sum(axis=1) <= _NEAR]
                pairs.append(np.stack([np.full(len(near), first[row]), first[near]], axis=1))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)
