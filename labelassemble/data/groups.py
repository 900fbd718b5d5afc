"""Groups: which images are of one patient, and what is odd about them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelassemble.data.coinciding import coinciding
from labelassemble.data.identifiers import PlainIds, plain_ids
from labelassemble.data.joins import forms
from labelassemble.data.readers.options import SourceOptions
from labelassemble.data.splits import Splits
from labelassemble.data.table import SPLITS, WARNING, Table
from labelassemble.data.text import TextArray, text_array, text_codes, text_numbers
from labelassemble.errors import LabelAssembleError

LARGE_SHARE: Final = 0.1
"""A group with more than this share of a source's images is worth a word, if it is much larger than the others."""
_LARGE_ROWS: Final = 10
_LARGE_RATIO: Final = 5
_SHORTENED_SHARE: Final = 0.05


def check_registers(sources: Sequence[SourceOptions]) -> None:
    """Raise LabelAssembleError if sources that share their patients compare ids by different rules."""
    rules: dict[str, SourceOptions] = {}
    for source in sources:
        first = rules.setdefault(source.register, source)
        if first.ids != source.ids:
            raise LabelAssembleError(
                f"sources '{first.name}' and '{source.name}' share the patients of '{source.register}', so their `ids` "
                f"must be the same, got {first.ids} and {source.ids}"
            )


def grouped(options: SourceOptions, table: Table) -> Table:
    """Return a reader's table with groups that mean something beside other sources, and notes on what was done.

    `register:patient` where the patient is known; otherwise the image is its own group, `source/name`.

    Raises:
        LabelAssembleError: The source writes one number in several ways, and its `ids` does not say what that means.
    """
    ids = plain_ids(table.groups, options.ids)
    if ids.alike:
        pairs = "; ".join(" and ".join(f"'{item}'" for item in own) for own in ids.alike.values())
        raise LabelAssembleError(
            f"source '{options.name}': {ids.alike_count} of its patient ids are numbers that it writes in several ways "
            f"({pairs}): say `ids: numbers` where those are the same patient, `ids: text` where they are different ones"
        )
    patient = f"{options.register}:" + ids.values
    known = ids.values != ""
    notes = _id_notes(ids, known, table.noun)
    if not known.all():
        patient = text_array(np.where(known, patient, _own_groups(table, ~known)))
    return replace(table, groups=patient, notes=(*table.notes, *notes))


def _own_groups(table: Table, rows: NDArray[np.bool_]) -> NDArray[np.object_]:
    """Return a group for each image, [N], of its own where `rows` is true: the name, or where names repeat the path."""
    groups = (table.sources + "/" + table.names).astype(object)
    own = text_array(groups[rows])
    names, code = text_codes(own)
    if len(names) == len(own):
        return groups
    image = text_numbers(table.paths[rows])
    first = np.full(len(names), -1)
    first[code[::-1]] = image[::-1]
    ambiguous = np.zeros(len(names), dtype=np.bool_)
    ambiguous[code[first[code] != image]] = True  # a name at two paths: two images
    if ambiguous.any():
        ends = pc.min_max(table.paths.__arrow_array__())
        first_path, last_path = ends["min"].as_py(), ends["max"].as_py()
        same = [a == b for a, b in zip(first_path, last_path, strict=False)]
        # the folder that all share does not count: another machine has another
        start = first_path.rfind("/", 0, (*same, False).index(False)) + 1
        index = np.flatnonzero(rows)[ambiguous[code]]
        groups[index] = [
            f"{source}/{path[start:]}"
            for source, path in zip(table.sources[index], table.paths[index], strict=True)
        ]
    return groups


def _id_notes(ids: PlainIds, known: NDArray[np.bool_], noun: str) -> list[str]:
    notes = []
    total, missing = len(known), int((~known).sum())
    if ids.blanked or 0 < missing < total:
        words = sorted(ids.blanked.items(), key=lambda item: -item[1])
        spelt = [f"{word!r} {count} times" for word, count in words[:5]]
        blank = missing - sum(ids.blanked.values())
        if blank:
            spelt.append(f"blank {blank} times")
        notes.append(
            f"no patient is known for {missing} of its {total} {noun}s ({', '.join(spelt)}): each of them is a group "
            "of its own"
        )
    if ids.shortened > _SHORTENED_SHARE * total:
        notes.append(
            f"{WARNING}{ids.shortened} of its {total} {noun}s have a patient id such as '{ids.shortened_example}', "
            "which has lost its last digits, so different patients may be one (write the column as text)"
        )
    return notes


def register_notes(sources: Sequence[tuple[SourceOptions, Table]]) -> list[str]:
    """Return how many patients each two sources of one register share, and a warning where ids of two coincide.

    The tables are `grouped`.

    Raises:
        LabelAssembleError: Two sources of one register have no patient in common, and no id of one is written in the
            form of any id of the other (letters or digits), unless their `ids` are "exact".
    """
    notes = []
    registers = [options.register for options, _ in sources]
    for register in dict.fromkeys(name for name in registers if registers.count(name) > 1):
        own = [
            (options.name, _patients(table, register))
            for options, table in sources
            if options.register == register
        ]
        ids = next(options.ids for options, _ in sources if options.register == register)
        for index, (right, theirs) in enumerate(own):
            for left, ours in own[:index]:
                if not len(ours) or not len(theirs):
                    continue
                shared = int(ours.isin(theirs.tolist()).sum())
                counts = f"patients of '{register}': {len(ours)} in source '{left}', {len(theirs)} in source '{right}'"
                if shared:
                    notes.append(f"{counts}, {shared} in both")
                    continue
                example = f"such as '{ours[0]}' and '{theirs[0]}'"
                # Who says that ids are exact has made them alike already.
                if ids != "exact" and not forms(ours) & forms(theirs):
                    raise LabelAssembleError(
                        f"{counts}, none in both: their ids are not written alike, {example} (write them alike, or "
                        f"leave `patients` out of one of the two)"
                    )
                notes.append(f"{WARNING}{counts}, none in both, {example}")
    return [*notes, *_coincidence_notes(sources)]


def _coincidence_notes(sources: Sequence[tuple[SourceOptions, Table]]) -> list[str]:
    """Return a warning for each two sources of different registers whose patient ids coincide."""
    if len({options.register for options, _ in sources}) < 2:
        return []
    notes = []
    own = [(options, _patients(table, options.register)) for options, table in sources]
    for index, (right, theirs) in enumerate(own):
        for left, ours in own[:index]:
            found = None if left.register == right.register else coinciding(ours, theirs)
            if found is not None:
                notes.append(
                    f"{WARNING}{found.sentence(left.name, right.name)}: if they are the same patients, say `patients: "
                    "NAME` in both sources, so that none is in two splits"
                )
    return notes


def _patients(table: Table, register: str) -> TextArray:
    """Return the ids of the patients of `register` in a table, each once."""
    prefix = f"{register}:"
    groups = text_codes(table.groups)[0]
    mine = pc.starts_with(groups.__arrow_array__(), prefix)
    ids = pc.utf8_slice_codeunits(groups.__arrow_array__().filter(mine), len(prefix))
    return text_array(ids.combine_chunks() if hasattr(ids, "combine_chunks") else ids)


def group_notes(
    sources: TextArray, groups: TextArray, published: TextArray, divided: Splits, noun: str = "image"
) -> tuple[str, ...]:
    """Return a warning for each source with an odd group, or whose published splits do not hold.

    Args:
        sources: The source of each image, text [N].
        groups: Its group, text [N].
        published: Its published split or "", text [N].
        divided: What became of it; its arrays are [N].
        noun: What a row is called, see `Table.noun`.
    """
    notes: list[str] = []
    names, source = text_codes(sources)
    for index, name in enumerate(names):
        rows = np.flatnonzero(source == index) if len(names) > 1 else np.arange(len(source))
        large = _large_group(divided.group[rows])
        if large is not None:
            own = rows[divided.group[rows] == large]
            notes.append(_large_note(str(name), rows, own, groups, divided, noun))
        if divided.moved[rows].any():
            notes.append(_moved_note(str(name), rows, groups, published, divided, noun))
    return tuple(notes)


def _large_group(group: NDArray[np.int64]) -> int | None:
    """Return the group that holds far more images than the others of its source, None where there is none."""
    counts = np.bincount(group)
    largest = int(counts.max())
    if largest < _LARGE_ROWS or largest <= LARGE_SHARE * len(group):
        return None
    others = int((counts > 0).sum()) - 1
    if others and largest * others <= _LARGE_RATIO * (len(group) - largest):
        return None
    return int(counts.argmax())


def _large_note(
    name: str, rows: NDArray[np.int64], own: NDArray[np.int64], groups: TextArray, divided: Splits, noun: str
) -> str:
    splits = divided.splits[rows]
    left = [split for split in SPLITS if not (splits == split).any()]
    empty = f", none of its {noun}s is in {' or '.join(left)}" if left else ""
    return (
        f"{WARNING}source '{name}': {len(own)} of its {len(rows)} {noun}s ({len(own) / len(rows):.0%}) are one group, "
        f"'{groups[own[0]]}', as if of one patient; all of them are in {divided.splits[own[0]]}{empty}"
    )


def _moved_note(
    name: str, rows: NDArray[np.int64], groups: TextArray, published: TextArray, divided: Splits, noun: str
) -> str:
    moved = rows[divided.moved[rows]]
    codes, counts = np.unique(divided.group[moved], return_counts=True)
    example = moved[divided.group[moved] == codes[counts.argmax()]]
    before, after = published[moved].astype(object), divided.splits[moved].astype(object)
    ways, images = np.unique(np.stack([before, after]).astype(np.str_), axis=1, return_counts=True)
    told = ", ".join(f"{count} from {way[0]} to {way[1]}" for way, count in zip(ways.T, images, strict=True))
    emptied = [split for split in SPLITS if _emptied(split, published[rows], divided.splits[rows])]
    empty = f"; none of its {noun}s is left in {' or '.join(emptied)}" if emptied else ""
    return (
        f"{WARNING}source '{name}': {len(moved)} of its {len(rows)} {noun}s leave the split that they were published "
        f"in, since {len(codes)} {'patients are' if len(codes) > 1 else 'patient is'} in several splits ({told}; "
        f"'{groups[example[0]]}' has {len(example)} of them){empty}"
    )


def _emptied(split: str, published: TextArray, final: TextArray) -> bool:
    had = (published == split) | ((published == "trainval") if split == "train" else False)
    return bool(had.any()) and not bool((final == split).any())
