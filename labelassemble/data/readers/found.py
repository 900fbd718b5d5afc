"""Finding images and folders of patients by name, wherever below a dataset's root they were unpacked to."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from labelassemble.data.readers.folders import IMAGE_ENDINGS, DatasetFolder
from labelassemble.data.text import TextArray, joined_text, text_array
from labelassemble.errors import LabelAssembleError

_TRIED: Final = 20  # images, until one is found that is there


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
        name = self._spelt(name)
        path = self._paths.get(name)
        if path is None:
            if self._missing is None:
                self._missing = name
            return None
        self._found = True
        return self._chosen([path, *self._others[name]], part) if name in self._others else path

    def has(self, name: str) -> bool:
        """Return whether the image lies anywhere."""
        return self._spelt(name) in self._paths

    def _spelt(self, name: str) -> str:
        """Return the name as the disk has it: its ending may be written in capitals, or not."""
        if name in self._paths:
            return name
        stem, dot, ending = name.rpartition(".")
        for other in (ending.lower(), ending.upper()):
            if f"{stem}{dot}{other}" in self._paths:
                return f"{stem}{dot}{other}"
        return name

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

    def settled(self, paths: TextArray, names: TextArray, table: str, layouts: str) -> TextArray:
        """Return `paths`, or where none of the images was found, those of a copy with other endings; text [N].

        Args:
            paths: Where the images lie as far as they were found.
            names: What they are called: "PART/FILE" or "FILE".
            table: As for `check`.
            layouts: As for `check`.

        Raises:
            LabelAssembleError: As `check`, where there is no such copy.
        """
        if self._missing is None or self._found:
            return paths
        copies = FoundImages(self._folder, parts=self._parts, usual=self._usual, any_ending=True)
        settled = []
        for path, name in zip(paths.tolist(), names.tolist(), strict=True):
            part, _, file = name.rpartition("/")
            copy = copies.find(file.rpartition(".")[0], part)
            settled.append(path if copy is None else f"{self._folder.root}/{copy}")
        if not copies._found:
            self.check(table, layouts)
        return text_array(settled)


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
