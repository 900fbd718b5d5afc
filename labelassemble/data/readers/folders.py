"""Which files lie below a dataset's root: the disk says how it was unpacked, each folder is listed once."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from labelassemble.data.csvfile import same_text, shown
from labelassemble.data.text import TextArray, joined_text
from labelassemble.errors import LabelAssembleError, did_you_mean

IMAGE_ENDINGS: Final = (".png", ".jpg", ".jpeg", ".dicom", ".dcm", ".tif", ".tiff", ".bmp", ".webp", ".pgm")
_ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
_DEEPEST: Final = 5  # physionet.org/files/vindr-cxr/1.0.0/annotations
_WIDEST: Final = 100  # a folder with more folders in it holds patients or studies, which are not looked into
_MOST: Final = 2000  # folders that are listed in all
_SHOWN: Final = 12
_TRIED: Final = 20  # images, until one is found that is there


class Folder(NamedTuple):
    """What lies in one folder.

    Attributes:
        path: Below the root, "/" at its end; "" is the root itself.
        files: The names of its files, sorted.
        folders: The names of its folders, sorted.
    """

    path: str
    files: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def depth(self) -> int:
        """How far below the root the folder lies."""
        return self.path.count("/")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names on the way from the root to the folder."""
        return tuple(self.path.split("/")[:-1])


class DatasetFolder:
    """The folders below a source's root, the nearest first, and what is found in them.

    Attributes:
        root: The root, absolute.
        folders: At most 2,000 folders, five levels deep; not those whose name `closed` matches, nor what lies in a
            folder that has more than 100 of them.
    """

    def __init__(self, source: str, root: Path, closed: str | None = None) -> None:
        """List the folders.

        Args:
            source: The source's name, for errors.
            root: Its folder.
            closed: What the names of folders look like that are not looked into, such as patients.

        Raises:
            LabelAssembleError: The root does not exist, is no folder or cannot be listed.
        """
        self.source = source
        self.root = Path(os.path.abspath(root))
        self.folders = [self._listed("")]
        pattern = re.compile(r"\..*|__MACOSX" if closed is None else rf"\..*|__MACOSX|{closed}")
        for folder in self.folders:  # which grows
            if folder.depth >= _DEEPEST or len(folder.folders) > _WIDEST:
                continue
            inside = [name for name in folder.folders if not pattern.fullmatch(name)]
            for name in inside[: _MOST - len(self.folders)]:
                self.folders.append(self._listed(f"{folder.path}{name}/"))

    def _listed(self, path: str) -> Folder:
        files, folders = [], []
        try:
            with os.scandir(self.root / path) as entries:
                for entry in entries:
                    # asking whether a link is a folder costs a question to the disk, and most are images
                    if entry.name.lower().endswith(IMAGE_ENDINGS) or not entry.is_dir():
                        files.append(entry.name)
                    else:
                        folders.append(entry.name)
        except OSError as error:
            if path:  # not ours to read
                return Folder(path, (), ())
            reason = (
                "does not exist" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
            )
            raise LabelAssembleError(f"source '{self.source}': the root {self.root} {reason}") from None
        return Folder(path, tuple(sorted(files)), tuple(sorted(folders)))

    def table(
        self,
        what: str,
        names: Sequence[str],
        *,
        like: str | None = None,
        refused: Mapping[str, str] | None = None,
    ) -> Path:
        """Return the one file that is the table; see `find_table`.

        Args:
            what: The dataset, for errors.
            names: As for `find_table`.
            like: As for `find_table`.
            refused: Patterns of the names of files of other datasets, and why each is not read.

        Raises:
            LabelAssembleError: There is none, or there are several.
        """
        found = self.find_table(names, like=like)
        if found is None:
            raise self.no_table(what, names, refused)
        return found

    def find_table(self, names: Sequence[str], *, like: str | None = None) -> Path | None:
        """Return the one file that is the table, None where there is none: the nearest to the root.

        Args:
            names: The publisher's names, the first that is there wins; each may have .gz behind it.
            like: What other names of it look like, if some are taken where none of `names` is there.

        Raises:
            LabelAssembleError: Several in equal distance are it: all are named.
        """
        for depth in range(_DEEPEST + 1):
            level = [folder for folder in self.folders if folder.depth == depth]
            for name in names:
                found = [f"{folder.path}{file}" for folder in level for file in _both(name, folder.files)]
                if found:
                    return self._only(found)
            if like is not None:
                pattern = re.compile(like)
                found = [
                    f"{folder.path}{file}"
                    for folder in level
                    for file in folder.files
                    if pattern.fullmatch(file)
                ]
                if found:
                    return self._only(found)
        return None

    def _only(self, found: Sequence[str]) -> Path:
        paths = [self.root / name for name in found]
        plain = {path.with_suffix("") if path.suffix == ".gz" else path for path in paths}
        if len(plain) == 1 and (len(paths) == 1 or same_text(*paths)):
            return paths[0]
        raise LabelAssembleError(
            f"source '{self.source}': {_few(found)} in {self.root} could each be the table: keep one, or set `root` "
            "to the folder of the one that is meant"
        )

    def no_table(
        self, what: str, names: Sequence[str], refused: Mapping[str, str] | None = None
    ) -> LabelAssembleError:
        """Return the error for a table that is not there, to be raised; `refused` as for `table`."""
        files = [f"{folder.path}{file}" for folder in self.folders for file in folder.files]
        for pattern, reason in (refused or {}).items():
            for file in files:
                if re.fullmatch(pattern, file.rpartition("/")[2]):
                    return LabelAssembleError(f"source '{self.source}': {self.root / file} is {reason}")
        tables = [file for file in files if not file.lower().endswith(IMAGE_ENDINGS)]
        shown_names = [file.rpartition("/")[2] for file in tables]
        near = next((hint for name in names if (hint := did_you_mean(name, shown_names))), "")
        advice = f"{near} Then rename it" if near else ""
        return LabelAssembleError(
            f"source '{self.source}': {self.root} has no {' or '.join(names)} (each may end in .gz), the table of "
            f"{what}; found {self._seen(tables)}{advice}"
        )

    def _seen(self, files: Sequence[str]) -> str:
        folders = [f"{name}/" for name in self.folders[0].folders]
        return _few([*files, *folders]) if files or folders else "nothing"

    def nothing_fits(self, table: str, missing: str, layouts: str, places: Sequence[str] = ()) -> None:
        """Raise where the root holds images or archives, but none of those that the table names.

        Args:
            table: The name of the table.
            missing: The first image that was sought.
            layouts: Where the reader looks.
            places: Folders of patients that are there.
        """
        images = [
            f"{folder.path}{file}"
            for folder in self.folders
            for file in folder.files
            if file.lower().endswith(IMAGE_ENDINGS)
        ]
        archives = [
            f"{folder.path}{file}"
            for folder in self.folders
            for file in folder.files
            if file.lower().endswith(_ARCHIVES)
        ]
        if archives and not images and not places:
            raise LabelAssembleError(
                f"source '{self.source}': none of the images of {table} is there yet: unpack {_few(archives, 3)} in "
                f"{self.root}, so that they lie in {layouts}"
            )
        wide = [folder.path for folder in self.folders[1:] if len(folder.folders) > _WIDEST and not places]
        if images or wide or places:
            found = _few([*images, *places, *wide], 3)
            raise LabelAssembleError(
                f"source '{self.source}': none of the images of {table} was found below {self.root}, such as "
                f"{shown(missing)}: the reader looks in {layouts}; found {found} (rename or move the folders so that "
                "they fit, or set `root` to the folder above them)"
            )


def _both(name: str, files: Sequence[str]) -> list[str]:
    return [file for file in (name, f"{name}.gz") if file in files]


def _few(names: Iterable[str], most: int = _SHOWN) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _meant(paths: Sequence[str], part: str, parts: Iterable[str], usual: str = "") -> str | None:
    """Return which of several `paths` of one name is meant, None where nothing says it.

    One in a folder called `part` comes before others and those in folders of other `parts` come last; then one whose
    folder looks as `usual` says. Of the rest the shortest is it if the others are copies of its folders further down.
    """
    others = frozenset(parts)

    def rank(path: str) -> tuple[int, int]:
        folders = path.split("/")[:-1]
        place = 0 if part in folders else 2 if others.intersection(folders) else 1
        return place, 0 if re.search(usual, path.rpartition("/")[0]) else 1

    best = min(map(rank, paths))
    first, *further = sorted((path for path in paths if rank(path) == best), key=len)
    return first if all(path.endswith(f"/{first}") for path in further) else None


class FoundImages:
    """Finds images by name, wherever below the root they were unpacked to.

    The same name in several folders: see `_meant`.
    """

    def __init__(
        self, folder: DatasetFolder, *, parts: Sequence[str] = (), usual: str = "", any_ending: bool = False
    ) -> None:
        """Index the files of a listed folder.

        Args:
            folder: The folder.
            parts: The names of the dataset's parts.
            usual: What the folders of its images look like, a regular expression.
            any_ending: Whether images are sought by their names without the ending.
        """
        self._folder = folder
        self._parts, self._usual = tuple(parts), usual
        self._paths: dict[str, str] = {}
        self._others: dict[str, list[str]] = {}
        self._found = False
        self._missing: str | None = None
        for place in folder.folders:
            for file in place.files:
                name = file
                if any_ending:
                    name, _, ending = file.rpartition(".")
                    if f".{ending.lower()}" not in IMAGE_ENDINGS:
                        continue
                path = f"{place.path}{file}"
                if self._paths.setdefault(name, path) is not path:
                    self._others.setdefault(name, []).append(path)

    def find(self, name: str, part: str = "") -> str | None:
        """Return where the image lies, below the root, and None where it is nowhere.

        Args:
            name: Its name.
            part: The part of the dataset that it belongs to.

        Raises:
            LabelAssembleError: It lies in several folders with nothing to choose by.
        """
        path = self._paths.get(name)
        if path is None:
            if self._missing is None:
                self._missing = name
            return None
        self._found = True
        return self._chosen([path, *self._others[name]], part) if name in self._others else path

    def has(self, name: str) -> bool:
        """Return whether the image lies anywhere."""
        return name in self._paths

    def _chosen(self, paths: Sequence[str], part: str) -> str:
        path = _meant(paths, part, self._parts, self._usual)
        if path is None:
            raise LabelAssembleError(
                f"source '{self._folder.source}': {paths[0]} and {paths[1]} in {self._folder.root} are two images of "
                "one name: move the folder that is not meant out of the root"
            )
        return path

    def check(self, table: str, layouts: str) -> None:
        """Raise where nothing that was sought was found although there are images; see `DatasetFolder.nothing_fits`."""
        if self._missing is not None and not self._found:
            self._folder.nothing_fits(table, self._missing, layouts)


class FoundFolders:
    """Finds the folders of patients, wherever below the root they were unpacked to; what is in them is not listed."""

    def __init__(self, folder: DatasetFolder, pattern: str, *, parts: Sequence[str] = ()) -> None:
        """Index the folders whose names match.

        Args:
            folder: The root; made with `closed`, so that the folders themselves are not looked into.
            pattern: Of the names.
            parts: The names of the dataset's parts, of which a folder on the way may have one.
        """
        self._folder = folder
        self._parts = tuple(parts)
        self._places: dict[str, list[str]] = {}
        matched = re.compile(pattern)
        for place in folder.folders:
            for name in place.folders:
                if matched.fullmatch(name):
                    self._places.setdefault(name, []).append(f"{place.path}{name}/")
        self._found = False
        self._missing: str | None = None

    def find(self, name: str, image: str, part: str = "") -> str | None:
        """Return the folder below the root, "/" at its end, None where there is none.

        Args:
            name: Of the folder.
            image: What is sought in it, for errors.
            part: The part of the dataset that it belongs to.

        Raises:
            LabelAssembleError: There are several with nothing to choose by.
        """
        places = self._places.get(name)
        if places is None:
            self._missing = self._missing or image
            return None
        self._found = True
        place = places[0] if len(places) == 1 else _meant(places, part, self._parts)
        if place is None:
            raise LabelAssembleError(
                f"source '{self._folder.source}': {places[0]} and {places[1]} in {self._folder.root} are two folders "
                "of one name: move the one that is not meant out of the root"
            )
        return place

    def check(self, table: str, layouts: str) -> None:
        """Raise where no folder was found although there are images or folders; see `DatasetFolder.nothing_fits`."""
        if self._missing is not None and not self._found:
            self._folder.nothing_fits(table, self._missing, layouts, self.places())

    def places(self) -> list[str]:
        """Return all folders that match."""
        return [place for places in self._places.values() for place in places]


def with_endings_there(paths: TextArray) -> TextArray:
    """Return the paths of images with the ending that they have on the disk, text [N]: a copy may be converted.

    The first image that is found says which ending that is; a few folders are listed for it.
    """
    for path in paths[:_TRIED].tolist():
        folder, _, name = path.rpartition("/")
        stem, _, ending = name.rpartition(".")
        try:
            there = sorted(os.listdir(folder))
        except OSError:
            continue
        copies = [
            file for file in there if file.rpartition(".")[0] == stem and file.lower().endswith(IMAGE_ENDINGS)
        ]
        if name in copies:
            break
        if copies:
            converted = copies[0].rpartition(".")[2]
            arrow = pc.replace_substring_regex(
                pa.array(paths, pa.large_string()), rf"\.{re.escape(ending)}$", f".{converted}"
            )
            return joined_text([arrow])
    return paths
