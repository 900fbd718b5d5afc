"""WebDataset tar shards: for sets that outgrow a folder of files."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa

from labelassemble.data.class_names import check_class_names
from labelassemble.data.csvfile import Chunk, shown
from labelassemble.data.new_table import new_table
from labelassemble.data.readers.csv import SPLIT_CELLS
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.shards import IMAGE_ENDINGS, expand
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN
from labelassemble.data.table import Table
from labelassemble.data.tar import TarIndex
from labelassemble.data.text import arrow_text, checked_text
from labelassemble.errors import LabelAssembleError, did_you_mean


class WebDatasetSource(TabularOptions):
    """Tar shards in which the members of a sample share a name up to its first dot: `000017.png`, `000017.json`.

    The labels of a sample are in its `.json`, {"labels": {"Edema": 1, "Mass": 0}, "patient": "7", "split": "train"}: 1,
    0, -2 = uncertain; -1, null or no entry = unknown; all but "labels" optional. Subgroups are further keys of it,
    "sex": "F". Or in its `.cls`: the number of the one class of `classes` that it is.

    Attributes:
        shards: The files, with a range or wildcards: `train-{000000..000146}.tar`, `shards/*.tar`.
        labels: Which member has the labels.
        classes: The classes; for "json" by default all that occur, in order of first appearance.
    """

    reader: Literal["webdataset"] = "webdataset"
    shards: FilePath
    labels: Literal["json", "cls"] = "json"
    classes: tuple[str, ...] | None = None

    def resolved(self, base: Path) -> Self:
        """Return the source with the shards' path made absolute, starting at the folder `base`."""
        return self.model_copy(update={"shards": base / self.shards})

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of all shards, with those `subgroups` that their .json have.

        Raises:
            LabelAssembleError: A shard is missing, cut off or damaged, or a sample breaks the rules above; with shard
                and sample.
        """
        if self.labels == "cls" and not self.classes:
            raise LabelAssembleError(f"source '{self.name}': labels in .cls need the names of the `classes`")
        paths: list[str] = []
        samples: list[_Sample] = []
        shards = self._shards()
        for shard in shards:
            index = TarIndex(shard)
            base = os.path.abspath(shard)
            for key, members in _samples(index).items():
                place = f"{shard}, sample '{key}'"
                image, content = self._members(index, members, place)
                paths.append(f"{base}::{image}")
                samples.append(self._sample(content, place, f"{shard.stem}/{key}", about=bool(subgroups)))
        classes = self.classes or tuple(dict.fromkeys(name for sample in samples for name in sample.labels))
        try:
            check_class_names(classes)
        except LabelAssembleError as error:
            raise LabelAssembleError(f"source '{self.name}': {error}") from None
        labels = np.full((len(samples), len(classes)), UNKNOWN, dtype=np.int8)
        columns = {name: column for column, name in enumerate(classes)}
        for row, sample in enumerate(samples):
            for name, state in sample.labels.items():
                if name in columns:
                    labels[row, columns[name]] = state
        subgroup_cells = self.subgroup_cells(subgroups)
        keys = list(dict.fromkeys(key for sample in samples for key in sample.about))
        found = subgroup_cells.columns(keys, str(self.shards))
        rows = {"(row)": pa.nulls(len(samples))}
        for key in {item.column for item in found.values()}:
            said = [sample.about.get(key, "") for sample in samples]
            rows[key] = arrow_text(checked_text(said, f"source '{self.name}', \"{key}\""))
        subgroup_cells.add(Chunk(self.shards, rows, "sample {}".format), found)
        return new_table(
            classes,
            listed=self.labels == "cls",
            paths=paths,
            names=[sample.name for sample in samples],
            labels=labels,
            sources=self.name,
            groups=[sample.patient for sample in samples],
            splits=[sample.split for sample in samples],
            subgroups=subgroup_cells.take(),
            notes=subgroup_cells.notes(),
            files=shards,
        )

    def _shards(self) -> list[Path]:
        shards = expand(Path(self.shards))
        if not shards:
            raise LabelAssembleError(f"source '{self.name}': no shard matches {self.shards}")
        return shards

    def _members(self, index: TarIndex, members: Mapping[str, str], place: str) -> tuple[str, bytes]:
        """Return the image's member and the bytes of the labels' member."""
        images = [name for ending, name in members.items() if ending.lower() in IMAGE_ENDINGS]
        if len(images) != 1:
            raise LabelAssembleError(f"{place}: must have one image, got {', '.join(images) or 'none'}")
        if self.labels not in members:
            raise LabelAssembleError(f"{place}: has no .{self.labels}, got {', '.join(members)}")
        return images[0], index.read(members[self.labels])

    def _sample(self, content: bytes, place: str, name: str, *, about: bool) -> "_Sample":
        if self.labels == "cls":
            assert self.classes is not None
            text = content.decode("ascii", errors="replace").strip()
            if not text.isdigit() or int(text) >= len(self.classes):
                raise LabelAssembleError(
                    f"{place}: its .cls must be a number below {len(self.classes)}, got {shown(text)}"
                )
            states = {item: int(number == int(text)) for number, item in enumerate(self.classes)}
            return _Sample(states, name, "", "", {})
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise LabelAssembleError(f"{place}: its .json cannot be read ({error})") from None
        if not isinstance(values, dict) or not isinstance(values.get("labels"), dict):
            raise LabelAssembleError(
                f'{place}: its .json must be an object with "labels", an object of states'
            )
        return _Sample(
            {item: _state(state, item, place) for item, state in values["labels"].items()},
            _text(values, "name", place) or name,
            _text(values, "patient", place),
            _split(_text(values, "split", place), place),
            {key: str(value) for key, value in values.items() if isinstance(value, (str, int, float))}
            if about
            else {},
        )


class _Sample(NamedTuple):
    """What is known about one image."""

    labels: dict[str, int]
    name: str
    patient: str
    split: str
    about: dict[str, str]


def _samples(index: TarIndex) -> dict[str, dict[str, str]]:
    """Return the members of each sample by ending."""
    samples: dict[str, dict[str, str]] = {}
    for member in index.members:
        folder, slash, file = member.rpartition("/")
        stem, dot, ending = file.partition(".")
        if not stem or not dot:
            raise LabelAssembleError(f"{index.path}: the member '{member}' must be called KEY.ENDING")
        samples.setdefault(f"{folder}{slash}{stem}", {})[ending] = member
    return samples


def _state(value: Any, name: str, place: str) -> int:
    if value is None:
        return int(UNKNOWN)
    if isinstance(value, bool):
        return int(POSITIVE if value else NEGATIVE)
    if value not in (1, 0, -1, -2) or not isinstance(value, (int, float)):
        raise LabelAssembleError(
            f"{place}, label '{name}': must be 1, 0, -1, -2 or null, got {shown(str(value))}"
        )
    return int(value)


def _text(values: Mapping[str, Any], key: str, place: str) -> str:
    value = values.get(key)
    if value is None or value != value:  # null, or NaN as pandas writes a gap
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or "\0" in str(value):
        raise LabelAssembleError(f'{place}: "{key}" must be text, got {shown(str(value))}')
    return str(value)


def _split(text: str, place: str) -> str:
    split = SPLIT_CELLS.get(text.strip().lower())
    if split is None:
        near = did_you_mean(text, ("train", "val", "test", "trainval"))
        raise LabelAssembleError(
            f'{place}: "split" must be train, val, test or trainval, got {shown(text)}{near}'
        )
    return split
