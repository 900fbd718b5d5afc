"""Which files below a folder are volumes and masks, and which patterns find image and mask of each case.

Names say what may be a mask; what the files hold says whether it is one.
"""

import os
import re
from collections.abc import Sequence
from itertools import product, takewhile
from pathlib import Path
from typing import Final, NamedTuple

from labelassemble.data.errors import ImageError
from labelassemble.data.grid import check_same_grid
from labelassemble.data.links import leads_back
from labelassemble.data.mask_files import mask_summary
from labelassemble.data.readers.folders import IMAGE_ENDINGS
from labelassemble.data.readers.volume_folder import FoundCases, find_cases
from labelassemble.data.volumes import is_nifti_name, read_grid
from labelassemble.errors import LabelAssembleError

_DEEPEST: Final = 5
_WIDEST: Final = 100  # a folder with more folders in it holds cases: the first few show what they are like
_LIKE: Final = 3
_NEAR: Final = 6  # images that are tried beside the first mask
_MASK_WORDS: Final = frozenset(
    [
        *("mask", "masks", "seg", "segs", "segmentation", "segmentations", "label", "labels", "labelstr"),
        *("labelsts", "gt", "groundtruth", "annotation", "annotations", "roi", "rois", "lesion", "lesions"),
    ]
)
# A folder of such a name may as well be a class: `lesion` beside `normal`.
_CLASS_LIKE: Final = frozenset(["lesion", "lesions", "roi", "rois", "seg", "segs"])
_IMAGE_WORDS: Final = frozenset(
    [
        *("image", "images", "imagestr", "img", "imgs", "photo", "photos", "picture", "pictures", "original"),
        *("originals", "raw", "scan", "scans", "slice", "slices", "frame", "frames", "input", "inputs"),
    ]
)
_LOOKED_AT: Final = 12  # masks that are compared with their image
_MOST_OF_SLICES: Final = 16
_MOST_OF_VOLUMES: Final = 256  # atlases of the brain have more than a hundred


class Listed(NamedTuple):
    """What lies below a folder, by paths below it.

    Attributes:
        images: volumes, folders of DICOM slices, NumPy archives, or image files.
        masks: those of them whose names say so.
    """

    images: list[str]
    masks: list[str]


def list_volumes(data: Path, *, slices: bool = False) -> Listed:
    """Return the volumes below a folder; of folders that hold more than 100 others, the first few.

    Args:
        data: the folder.
        slices: seek image files instead (PNG, ...), of which those in a folder or of a name that says so are masks.
    """
    found: list[str] = []
    open_folders = [""]
    for folder in open_folders:  # which grows
        try:
            entries = sorted(os.scandir(data / folder), key=lambda entry: entry.name)
        except OSError:  # not ours to read
            continue
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        files = [entry.name for entry in shown if os.path.isfile(entry)]  # no link to nothing, no pipe
        inside = [
            entry.name
            for entry in shown
            if os.path.isdir(entry) and not (entry.is_symlink() and leads_back(entry.path))
        ]
        if (
            not slices
            and folder
            and not inside
            and len(files) > 1
            and is_dicom_file(data / folder / files[0])
        ):
            found.append(folder.rstrip("/"))
            continue
        found += [f"{folder}{name}" for name in files if _is_volume(name, slices)]
        if folder.count("/") < _DEEPEST:
            few = inside[:_LIKE] if len(inside) > _WIDEST else inside
            open_folders += [f"{folder}{name}/" for name in few]
    masks = [path for path in found if _says_mask(path)]
    drawn = set(masks)
    return Listed([path for path in found if path not in drawn], masks)


def _is_volume(name: str, slices: bool) -> bool:
    return name.lower().endswith(IMAGE_ENDINGS) if slices else is_nifti_name(name) or name.endswith(".npz")


def is_dicom_file(path: Path) -> bool:
    """Return whether a file begins as a DICOM file does; what is no file or cannot be read does not."""
    if not path.is_file():  # opening a pipe would wait
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _says_mask(path: str) -> bool:
    return not _MASK_WORDS.isdisjoint(_words(path))


def _words(path: str) -> set[str]:
    return set(re.findall("[a-z]+", path.lower()))


class Patterns(NamedTuple):
    """How image and mask of each case are found.

    Attributes:
        images, masks: as the reader `volumes` takes them.
        found: what they find.
    """

    images: str
    masks: str
    found: list[FoundCases]

    def drawn(self) -> list[str]:
        """Return the masks that are found."""
        return [mask for case in self.found for mask in case.masks if mask]

    def paths(self) -> list[str]:
        """Return the images that are found."""
        return [path for case in self.found for path in case.paths]

    def pairs(self) -> list[tuple[str, str]]:
        """Return the images that have a mask, and it."""
        return [
            (path, mask)
            for case in self.found
            for path, mask in zip(case.paths, case.masks, strict=True)
            if mask
        ]

    def names_images(self) -> bool:
        """Return whether a folder of the images, and not of the masks, is called so."""
        images, masks = (path.rpartition("/")[0] for path in (self.images, self.masks))
        return not _IMAGE_WORDS.isdisjoint(_words(images) - _words(masks))

    def names_masks(self) -> bool:
        """Return whether the masks are called so by more than a folder that may be a class."""
        folders = [name for name in self.masks.split("/")[:-1] if name.lower() not in _CLASS_LIKE]
        return self.file_names_mask() or _says_mask("/".join(folders))

    def file_names_mask(self) -> bool:
        """Return whether the files themselves are called masks."""
        return _says_mask(self.masks.rpartition("/")[2])


def find_patterns(data: Path, listed: Listed) -> list[Patterns]:
    """Return the patterns that find most masks, those without an image that has none first; several if they are equal.

    Of the first mask and the images whose names are most like its own, the parts that both share become stars.
    """
    tried: dict[tuple[str, str], Patterns] = {}
    for mask in dict.fromkeys((listed.masks[0], listed.masks[-1])):
        near = sorted(listed.images, key=lambda image: (-_alike(image, mask), image))[:_NEAR]
        for image in near:
            for pair in _pairs(image, mask):
                if pair in tried:
                    continue
                try:
                    tried[pair] = Patterns(*pair, find_cases(data, *pair, "init"))
                except LabelAssembleError:  # it finds nothing
                    continue
    if not tried:
        return []

    def worth(one: Patterns) -> tuple[int, int, int]:
        drawn = len(one.drawn())
        return drawn, drawn - len(one.paths()), -one.images.count("*")

    best = max(map(worth, tried.values()))
    equal = [one for one in tried.values() if worth(one) == best]
    nearest = max(map(_shared_folders, equal))  # of two datasets in one folder, each has its own masks
    return sorted((one for one in equal if _shared_folders(one) == nearest), key=lambda one: one.images)


def _shared_folders(one: Patterns) -> int:
    """Return how many folders the patterns of images and masks begin with alike."""
    pairs = zip(one.images.split("/")[:-1], one.masks.split("/")[:-1], strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1] or "{}" in pair[1], pairs)))


def _stem(path: str) -> tuple[str, str]:
    """Return the last part of a path without its ending, and that."""
    name = path.rpartition("/")[2]
    ending = re.search(r"(\.nii(\.gz)?|\.[a-z]{3,5})$", name, re.IGNORECASE)
    return (name, "") if ending is None else (name[: ending.start()], ending[0])


def _alike(image: str, mask: str) -> int:
    ours, theirs = _stem(image)[0], _stem(mask)[0]
    folders = len(os.path.commonpath([image, mask]).split("/"))
    return folders + len(_shared(ours, theirs)) + len(_shared(ours[::-1], theirs[::-1]))


def _shared(one: str, other: str) -> str:
    """Return what both begin with."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(letter for letter, _ in pairs)


def _pairs(image: str, mask: str) -> list[tuple[str, str]]:
    """Return patterns that an image and its mask may be found by, each with stars in other places."""
    folders, others = image.split("/")[:-1], mask.split("/")[:-1]
    choices = []
    for index, name in enumerate(folders):
        same = index < len(others) and others[index] == name
        choices.append(("*", name) if same else (name,))
    pairs = []
    for taken in product(*choices):
        # a star that is not a `{}` of the mask's would move those behind it
        drawn = [
            "{}" if index < len(taken) and taken[index] == "*" else name for index, name in enumerate(others)
        ]
        pairs += [("/".join([*taken, one]), "/".join([*drawn, two])) for one, two in _names(image, mask)]
    return pairs


def _names(image: str, mask: str) -> list[tuple[str, str]]:
    """Return how the last parts of both paths may vary: not at all, behind what they share, or before it."""
    (ours, ending), (theirs, end) = _stem(image), _stem(mask)
    found = [(f"{ours}{ending}", f"{theirs}{end}")]
    shared = _shared(ours, theirs)
    if shared != ours and shared != theirs:
        shared = shared.rstrip("_-. ")
    if shared:
        found.append((f"*{ours[len(shared) :]}{ending}", f"{{}}{theirs[len(shared) :]}{end}"))
    shared = _shared(ours[::-1], theirs[::-1])[::-1].lstrip("_-. ")
    if shared:
        found.append((f"{ours[: -len(shared)]}*{ending}", f"{theirs[: -len(shared)]}{{}}{end}"))
    return found


def why_no_masks(pairs: Sequence[tuple[str, str]], *, slices: bool) -> str:
    """Return why most of some files are no masks of their images, "" where they are.

    A mask has one channel of whole numbers, stored without loss, and few of them; that of a slice, which nothing but
    its name ties to an image, has the size of it. Single files that are not so are left to `assemble`.

    Args:
        pairs: image and mask of each case; "" for an image that is not known.
        slices: whether they are image files (PNG, ...).
    """
    most = _MOST_OF_SLICES if slices else _MOST_OF_VOLUMES
    some = pairs[:: -(-len(pairs) // _LOOKED_AT) or 1]
    reasons, values = [], set[int]()
    for image, mask in some:
        try:
            found = mask_summary(mask)
            if slices and image:
                check_same_grid(mask, found.grid, image, read_grid(image))
        except ImageError as error:
            reasons.append(f"{error}")
            continue
        if len(found.counts) > most:
            reasons.append(f"{mask}: {len(found.counts)} values, and a mask has at most {most} classes")
        else:
            values.update(found.counts)
    if 2 * len(reasons) > len(some):
        return reasons[0]
    return (
        f"they hold {len(values)} values, and masks have at most {most} classes" if len(values) > most else ""
    )
