"""Images inside a file of many: `container::member`.

| container | reference |
|---|---|
| NumPy archive | `retinamnist.npz::train_images::17` |
| encoded files joined in a NumPy archive | `cifar10_test.npz::jpeg::17` |
| idx file | `train-images-idx3-ubyte.gz::17` |
| CIFAR-10's batch | `data_batch_1::17`, `data_batch_1.bin::17` |
| tar shard | `shard-000000.tar::a/000017.png` |

A process opens each container once and keeps the last few, of tar shards what lies where in each of the last thousands:
a shuffled pass takes its images from all shards in turn. Any number of threads may ask at the same time.
"""

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.errors import ImageError
from labelassemble.data.stacks import (
    JoinedFiles,
    load_cifar_batch,
    load_idx,
    load_joined_files,
    load_npz_array,
    npz_header,
    npz_names,
)
from labelassemble.data.tar import TarIndex
from labelassemble.errors import LabelAssembleError

SEPARATOR: Final = "::"
_IDX: Final = re.compile(r"idx\d-ubyte(\.gz)?$")
_CIFAR: Final = re.compile(r"(data_batch_\d+|test_batch)(\.bin)?$")

_Opened: TypeAlias = NDArray[Any] | JoinedFiles | TarIndex


class _Cache:
    """The containers that were opened last, least used first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[Hashable, _Opened] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, open_it: Callable[[], _Opened]) -> _Opened:
        with self._lock:
            item = self._items.get(key)
            if item is None:
                item = self._items[key] = open_it()
                if len(self._items) > self._size:
                    self._items.popitem(last=False)
            else:
                self._items.move_to_end(key)
            return item

    def drop(self, key: Hashable) -> None:
        with self._lock:
            self._items.pop(key, None)

    def forget_lock(self) -> None:
        self._lock = threading.Lock()


_cache: Final = _Cache(size=8)
_shards: Final = _Cache(size=4096)
for _one in (_cache, _shards):
    # a worker forked while another thread held the lock would wait for that thread for ever
    os.register_at_fork(after_in_child=_one.forget_lock)


def tar_members(container: str) -> list[str]:
    """Return the members of a tar shard, in order; where they lie is kept for `read_member` until `let_go`.

    Raises:
        LabelAssembleError: It cannot be read.
    """
    index = _shards.get(container, lambda: TarIndex(Path(container)))
    assert isinstance(index, TarIndex)
    return list(index.members)


def let_go(container: str) -> None:
    """Forget where the members of a tar shard lie, which is not read again soon."""
    _shards.drop(container)


def is_reference(name: str) -> bool:
    """Return whether `name` means a member of a container and not a file."""
    return SEPARATOR in name and not os.path.exists(name)


def read_member(reference: str) -> NDArray[np.uint8] | bytes:
    """Return an image inside a container: pixels uint8 [channels, H, W], or the bytes of an encoded image.

    Args:
        reference: `container::member` as in the table above.

    Raises:
        ImageError: The container is missing, damaged or of an unknown kind, or has no such member.
    """
    container, _, member = reference.partition(SEPARATOR)
    try:
        if container.endswith(".tar"):
            index = _shards.get(container, lambda: TarIndex(Path(container)))
            assert not isinstance(index, (np.ndarray, JoinedFiles))
            return index.read(member)
        array, _, number = member.rpartition(SEPARATOR)
        stack = _cache.get((container, array), lambda: _stack(Path(container), array))
        assert isinstance(stack, (np.ndarray, JoinedFiles))
        if not number.isascii() or not number.isdigit() or int(number) >= len(stack):
            raise LabelAssembleError(f"a member must be a number below {len(stack)}, got '{number}'")
        image = stack[int(number)]
        return image if isinstance(image, bytes) else np.ascontiguousarray(image)
    except LabelAssembleError as error:
        raise ImageError(reference, str(error).removeprefix(f"{container}: ")) from None


def read_array(reference: str) -> NDArray[Any] | bytes:
    """Return an array inside a NumPy archive as it is stored, or the bytes of an encoded image in any container.

    Args:
        reference: `file.npz::array`, `file.npz::array::17` for an entry of a stack, or as for `read_member`.

    Raises:
        ImageError: As `read_member`.
    """
    container, _, member = reference.partition(SEPARATOR)
    array, stacked, number = member.rpartition(SEPARATOR)
    try:
        if not container.endswith(".npz") or (stacked and "offsets" in npz_names(Path(container))):
            return read_member(reference)
        if not stacked:
            return load_npz_array(Path(container), member)
        stack = _cache.get((container, array, "as stored"), lambda: load_npz_array(Path(container), array))
        assert isinstance(stack, np.ndarray)
        if not number.isascii() or not number.isdigit() or int(number) >= len(stack):
            raise LabelAssembleError(f"a member must be a number below {len(stack)}, got '{number}'")
        entry: NDArray[Any] = stack[int(number)]
        return entry
    except ImageError:
        raise
    except LabelAssembleError as error:
        raise ImageError(reference, str(error).removeprefix(f"{container}: ")) from None


def read_entry(reference: str) -> NDArray[Any] | bytes:
    """Return what lies inside a container: an image as `read_member` returns it, any other array as it is stored.

    Raises:
        ImageError: As `read_member`.
    """
    container, _, member = reference.partition(SEPARATOR)
    array, stacked, _ = member.rpartition(SEPARATOR)
    try:
        if container.endswith(".npz") and "offsets" not in npz_names(Path(container)):
            shape, dtype = npz_header(Path(container), array if stacked else member)
            is_image = dtype == np.uint8 and (len(shape) == 3 or shape[3:] in ((1,), (3,)))
            if not stacked or not is_image:
                return read_array(reference)
    except LabelAssembleError as error:
        raise ImageError(reference, str(error).removeprefix(f"{container}: ")) from None
    return read_member(reference)


def _stack(path: Path, array: str) -> NDArray[np.uint8] | JoinedFiles:
    """Return all images of a container: pixels uint8 [N, channels, H, W], or the bytes of encoded files."""
    if path.suffix == ".npz" and "offsets" in npz_names(path):
        return load_joined_files(path, array)
    if path.suffix == ".npz":
        return channels_first(load_npz_array(path, array))
    if _IDX.search(path.name):
        return channels_first(load_idx(path))
    if _CIFAR.search(path.name):
        return load_cifar_batch(path).pixels
    raise LabelAssembleError("a container must be a .npz, .tar, idx or CIFAR-10 batch file")


def channels_first(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a stack [N, H, W] or [N, H, W, 1|3] as [N, channels, H, W], without a copy.

    Raises:
        LabelAssembleError: Another shape, such as volumes [N, D, H, W], or not uint8.
    """
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return pixels[:, None]
    if pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        return pixels.transpose(0, 3, 1, 2)
    raise LabelAssembleError(
        f"images must be uint8 [N, H, W] or [N, H, W, 3] (no volumes), got {pixels.dtype} {list(pixels.shape)}"
    )
