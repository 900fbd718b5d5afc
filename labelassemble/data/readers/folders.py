"""Which files lie below a dataset's root: the disk says how it was unpacked, each folder is listed once."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from labelassemble.data.csvfile import same_text, shown
from labelassemble.data.links import leads_back
from labelassemble.errors import LabelAssembleError, did_you_mean

IMAGE_ENDINGS: Final = (".png", ".jpg", ".jpeg", ".dicom", ".dcm", ".tif", ".tiff", ".bmp", ".webp", ".pgm")
_ARCHIVES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
_DEEPEST: Final = 5  # physionet.org/files/vindr-cxr/1.0.0/annotations
_WIDEST: Final = 100  # a folder with more folders in it holds patients or studies, which are not looked into
_MOST: Final = 2000  # folders that are listed in all
_SHOWN: Final = 12


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


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir() and not (entry.is_symlink() and leads_back(entry.path))
    except OSError:  # a link that leads to itself
        return False


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
                    if entry.name.lower().endswith(IMAGE_ENDINGS) or not _is_folder(entry):
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
