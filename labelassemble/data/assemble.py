"""Assembling: many sources in, one table out, and an account of what was decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data.alignment import (
    NamedSource,
    check_names,
    limited,
    name_source,
    told_by,
    unlabel,
)
from labelassemble.data.class_names import check_class_names
from labelassemble.data.conflicts import contradiction_conflicts, duplicate_frames, exclusion_conflicts
from labelassemble.data.decoding import Decoding, reference
from labelassemble.data.derivation import Contradiction, aligned, contradicted
from labelassemble.data.duplicates import (
    Duplicates,
    DuplicateSearch,
    Merged,
    find_duplicates,
    image_codes,
    joined_groups,
    merge_labels,
    standing_rows,
)
from labelassemble.data.exclusion import (
    ExclusionRules,
    Exclusions,
    SourceRule,
    apply_exclusions,
    exclude_by_patient,
)
from labelassemble.data.fingerprints import Progress
from labelassemble.data.groups import check_registers, group_notes, grouped, register_notes
from labelassemble.data.mask_labels import drawn_beats_said, mask_counts
from labelassemble.data.notes import split_notes, table_notes, word_notes
from labelassemble.data.option_notes import Asked, early_notes, late_notes, why_unlabelled
from labelassemble.data.readers import Source
from labelassemble.data.report import AssemblyReport, row_frame, split_counts
from labelassemble.data.several_masks import keep_several_masks
from labelassemble.data.splits import SplitOptions, split_by_group
from labelassemble.data.states import UNCERTAIN, UNKNOWN, LabelOrigin, UncertainPolicy
from labelassemble.data.subgroup_report import merged_subgroups, read_with_subgroups, subgroup_counts
from labelassemble.data.table import TEXT_FIELDS, Table
from labelassemble.data.taxonomy import Taxonomy
from labelassemble.data.text import TextArray, constant_text, joined_text, text_array, text_codes
from labelassemble.errors import LabelAssembleError, did_you_mean


@dataclass(frozen=True)
class Assembly:
    """One honest table of several sources.

    Attributes:
        table: All images. UNCERTAIN labels are still in it: `targets` applies the policies.
        report: What was assembled and decided.
        policies: What UNCERTAIN becomes, by source and class; what `Table.targets` takes as `per_source`.
        hidden: The rows whose labels were hidden on purpose, with those labels and no others; None without `hide`.
        exclusions: Which classes exclude each other in each row of `table`.
        voxel_exclusions: Which classes exclude each other in the voxels of each row: `exclusions`, and `exclusive:
            voxel`.
    """

    table: Table
    report: AssemblyReport
    exclusions: Exclusions
    voxel_exclusions: Exclusions
    policies: dict[str, dict[str, UncertainPolicy]] = field(default_factory=dict)
    hidden: Table | None = None

    def targets(self) -> NDArray[np.float32]:
        """Return what the loss is given for each row of `table`, float32 [N, C]; see `Table.targets`."""
        return self.table.targets(per_source=self.policies)


def assemble(
    sources: Sequence[Source],
    *,
    classes: Sequence[str] | None = None,
    split: SplitOptions | None = None,
    taxonomy: Taxonomy | None = None,
    subgroups: Sequence[str] = (),
    duplicates: DuplicateSearch = "path",
    workers: int = 1,
    progress: Progress | None = None,
) -> Assembly:
    """Return one table of all `sources`, its classes aligned by name.

    For each source, in this order: names made the taxonomy's, `limit`, labels derived by the taxonomy (see `aligned`),
    `hide`, `assume`. Then rows of the same image become one (see `merge_labels` for the rule). Then the splits: a
    source's `split`, else the publisher's, else by a hash of the seed and the patient; no group of images lies on two
    sides (see `split_by_group`). Then `labelled`. Last, what excludes each other by the taxonomy or by a source's
    `exclusive`: a positive label, whoever gave it, makes unknown ones negative; the result does not depend on the order
    of sources.

    Args:
        sources: At least one, each with a name of its own.
        classes: The classes of the table; by default those of the sources, in order of first appearance.
        split: How rows without a published split are divided; default 70 / 10 / 20 %.
        taxonomy: Synonyms, implications and exclusions; without one, names must be the same to be the same class.
        subgroups: Columns that the table carries beside the labels: "sex", "age", "view", or others of the sources'.
        duplicates: How the same image is recognised: by "path", also by the "content" of its file, or also by "looks".
        workers: Threads that read images, where `duplicates` asks for that.
        progress: Called with (images done, images in all) meanwhile.

    Raises:
        LabelAssembleError: A source cannot be read or is empty, two share a name, a class name is known to nobody, or
            nobody labels any class.
    """
    split = split or SplitOptions()
    _check_sources(sources)
    named = [
        name_source(source, grouped(source, read_with_subgroups(source, subgroups)), taxonomy)
        for source in sources
    ]
    union = list(dict.fromkeys(name for source in named for name in source.table.classes))
    chosen = union if classes is None else _chosen(classes, union, taxonomy)
    for source in named:
        check_names(source, list(dict.fromkeys([*union, *chosen])))
    policies = _policies(named, chosen)
    every_option = [
        SourceRule(source.options.name, _source_names(source), source.exclusive)
        for source in named
        if source.exclusive is not None
    ]
    options = [rule for rule in every_option if rule.exclusive != "voxel"]
    # A class that is left out may exclude one that is not, so its labels are needed until that is said.
    every = ExclusionRules.of([*chosen, *(name for name in union if name not in chosen)], options, taxonomy)
    wide = every.with_rivals(len(chosen))
    rules = ExclusionRules.of(wide, options, taxonomy)
    voxel_rules = ExclusionRules.of(chosen, every_option, taxonomy)
    told = (
        *told_by(named),
        *(note for source in named for note in word_notes(source.options.name, source.table, taxonomy)),
        *register_notes([(source.options, source.table) for source in named]),
    )
    files = tuple((source.options.name, file) for source in named for file in source.table.files)
    asked = [Asked.of(source) for source in named]
    parts = []
    while named:
        # each reader's table goes as soon as it is used: at millions of rows they would fill the memory
        parts.append(_part(named.pop(0), wide, split.seed, taxonomy))
    starts = np.cumsum([0, *(len(part.labels) for part in parts)])
    contradictions = [
        found._replace(rows=found.rows + start)
        for start, part in zip(starts, parts, strict=False)
        for found in part.contradictions
        if found.implied in chosen
    ]
    told += tuple(note for part in parts for note in part.notes)
    table, hidden = _joined(parts, wide, chosen, why_unlabelled(sources))
    del parts
    found = find_duplicates(table.paths, duplicates, workers=workers, progress=progress)
    masks = keep_several_masks(table, found)
    table, found, told = masks.table, masks.found, (*told, *masks.notes)
    across, merged = _merged(table, found, taxonomy)
    conflicts = contradiction_conflicts(table, [*contradictions, *across])
    both_rules = rules, voxel_rules
    assembly = _finished(
        table, hidden, found, masks.pairs, merged, policies, asked, both_rules, chosen, split, told, conflicts
    )
    notes = (*assembly.report.notes, *late_notes(assembly.table, asked, taxonomy))
    return replace(assembly, report=replace(assembly.report, files=files, notes=notes))


@dataclass
class _Part:
    """One source's share of the table, taken apart column by column while the table is joined."""

    texts: dict[str, TextArray]
    subgroups: dict[str, TextArray]
    labels: NDArray[np.int8]
    origins: NDArray[np.uint8]
    hidden: NDArray[np.int8] | None
    contradictions: tuple[Contradiction, ...]
    notes: tuple[str, ...]
    mask_values: Mapping[str, Mapping[int, str]]


def _check_sources(sources: Sequence[Source]) -> None:
    if not sources:
        raise LabelAssembleError("sources: at least one is needed, got none")
    names = [source.name for source in sources]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise LabelAssembleError(f"sources: each must have a name of its own, got '{name}' twice")
    check_registers(sources)


def _chosen(classes: Sequence[str], union: Sequence[str], taxonomy: Taxonomy | None) -> list[str]:
    chosen = [name if taxonomy is None else taxonomy.canonical(name, "classes") for name in classes]
    if not chosen:
        raise LabelAssembleError("classes: at least one is needed, got none")
    check_class_names(chosen)
    implied = (
        {parent for name in union for parent in taxonomy.implied(name)} if taxonomy is not None else set()
    )
    for name in chosen:
        if name not in union and name not in implied:
            raise LabelAssembleError(f"classes: no source has a class '{name}'{did_you_mean(name, union)}")
    return chosen


def _policies(named: Sequence[NamedSource], classes: Sequence[str]) -> dict[str, dict[str, UncertainPolicy]]:
    policies = {}
    for source in named:
        own = {
            name: policy for name, policy in source.uncertain.items() if name == "default" or name in classes
        }
        if own:
            for name in _source_names(source):
                policies[name] = own
    return policies


def _source_names(source: NamedSource) -> tuple[str, ...]:
    """Return what the source is called in the table: several names where its file has a column of sources."""
    return tuple(str(name) for name in text_codes(source.table.sources)[0])


def _part(source: NamedSource, classes: Sequence[str], seed: int, taxonomy: Taxonomy | None) -> _Part:
    options = source.options
    table = limited(source.table, options.limit, seed)
    labels, origins, contradictions = aligned(table, classes, taxonomy)
    hidden = None
    for name in source.hide:
        if name not in classes:
            continue
        if hidden is None:
            hidden = np.full(labels.shape, UNKNOWN, dtype=np.int8)
        column = classes.index(name)
        hidden[:, column] = np.where(origins[:, column] > 0, UNKNOWN, labels[:, column])
        labels[:, column] = UNKNOWN
        origins[:, column] = LabelOrigin.GIVEN
    for name, state in source.assume.items():
        if name in classes:
            column = classes.index(name)
            unknown = labels[:, column] == UNKNOWN
            labels[unknown, column] = state
            origins[unknown, column] = LabelOrigin.ASSUME
    texts = {name: getattr(table, name) for name in TEXT_FIELDS}
    behind = reference("", Decoding(options.bits, options.orientation))
    if behind:
        texts["paths"] = text_array(texts["paths"] + behind)
    if options.split is not None:
        texts["splits"] = constant_text(options.split, len(table))
    notes = early_notes(source, len(table), classes, origins, hidden)
    return _Part(
        texts, dict(table.subgroups), labels, origins, hidden, contradictions, notes, table.mask_values
    )


def _joined(
    parts: Sequence[_Part], classes: Sequence[str], chosen: Sequence[str], why_unlabelled: str
) -> tuple[Table, NDArray[np.int8] | None]:
    """Return the table, its splits as published, and the hidden labels; empties the parts as it goes.

    Raises:
        LabelAssembleError: None of the `chosen` classes is labelled by any source.
    """
    texts: dict[str, Any] = {
        name: joined_text([part.texts.pop(name) for part in parts]) for name in TEXT_FIELDS
    }
    hidden = None
    if any(part.hidden is not None for part in parts):
        hidden = np.concatenate(
            [np.full_like(part.labels, UNKNOWN) if part.hidden is None else part.hidden for part in parts]
        )
    one = len(parts) == 1
    labels = parts[0].labels if one else np.concatenate([part.labels for part in parts])
    origins = parts[0].origins if one else np.concatenate([part.origins for part in parts])
    texts["subgroups"] = {
        name: joined_text([part.subgroups.pop(name) for part in parts]) for name in list(parts[0].subgroups)
    }
    count = len(chosen)  # the chosen classes come first
    if not ((labels[:, :count] != UNKNOWN) & (origins[:, :count] != LabelOrigin.ASSUME)).any():
        raise LabelAssembleError(
            f"no source labels any of the classes ({', '.join(chosen)}): {why_unlabelled}"
        )
    texts["mask_values"] = {name: values for part in parts for name, values in part.mask_values.items()}
    return Table(tuple(classes), **texts, labels=labels, origins=origins), hidden


def _merged(table: Table, found: Duplicates, taxonomy: Taxonomy | None) -> tuple[list[Contradiction], Merged]:
    """Return one row of labels per image, and where the sources of an image contradict each other by the taxonomy."""
    merged = merge_labels(found.image, table.labels, table.origins)
    if len(merged.keep) == len(table):
        return [], merged
    drawn = table.masks != ""
    if drawn.any():
        merged = drawn_beats_said(table, merged, standing_rows(merged, found.image, drawn))
    across = contradicted(merged.labels, table.classes, taxonomy)
    for item in across:
        column = table.classes.index(item.implied)
        merged.labels[item.rows, column] = UNCERTAIN
        merged.origins[item.rows, column] = LabelOrigin.GIVEN
    return [item._replace(rows=merged.keep[item.rows]) for item in across], merged


def _finished(
    table: Table,
    hidden: NDArray[np.int8] | None,
    found: Duplicates,
    of_one_image: NDArray[np.int64],
    merged: Merged,
    policies: dict[str, dict[str, UncertainPolicy]],
    asked: Sequence[Asked],
    both_rules: tuple[ExclusionRules, ExclusionRules],
    chosen: Sequence[str],
    options: SplitOptions,
    told: tuple[str, ...],
    implied: pd.DataFrame,
) -> Assembly:
    """Return the assembly of a table whose splits are still the published ones and whose duplicates are still rows.

    Its classes are the `chosen` ones and those that exclude one of them; the latter are left out in the end. What the
    readers `told` stands first among the report's notes; `of_one_image` are pairs of rows on one side of a split;
    `implied` are conflicts of labels that imply each other.
    """
    groups = joined_groups(table.groups, found.image, np.concatenate([found.alike, of_one_image]))
    divided = split_by_group(table.splits, groups, options)
    published = bool((table.splits == "train").any())
    rules, voxel_rules = both_rules
    image, _ = image_codes(found.image)
    held = rules.holding(table.sources, image)
    exclusions = rules.of_images(held)
    voxel_exclusions = voxel_rules.of_images(voxel_rules.holding(table.sources, image))
    kept, drawn = merged.keep, table.masks != ""
    moved = kept[divided.moved[kept]]
    once = slice(None) if len(kept) == len(table) else kept
    odd = group_notes(table.sources[once], groups[once], table.splits[once], divided.select(kept), table.noun)
    moves = row_frame(table, name=moved).rename(columns={"name_source": "source"})
    moves["published"] = table.splits[moved].astype(object)
    moves["split"] = divided.splits[moved].astype(object)
    duplicates, conflicts = duplicate_frames(table, found, merged)
    alike = row_frame(table, name=found.alike[:, 0], other=found.alike[:, 1])
    unread = [str(path) for path in table.paths[found.unread]]
    texts = {name: getattr(table, name) for name in TEXT_FIELDS} | {
        "groups": groups,
        "splits": divided.splits,
    }
    if len(kept) < len(table):
        standing = standing_rows(merged, found.image, drawn)
        texts = {name: array[standing] for name, array in texts.items()}
        if hidden is not None:
            hidden = merge_labels(found.image, hidden, np.zeros(hidden.shape, dtype=np.uint8)).labels
    subgroups, said_twice = merged_subgroups(table, found.image, kept)
    fields = {**texts, "labels": merged.labels, "origins": merged.origins, "subgroups": subgroups}
    table = Table(table.classes, **fields, mask_values=table.mask_values)
    for source in asked:
        if not source.labelled:
            continue
        table, taken = unlabel(table, source.called, source.labelled, options.seed)
        hidden = taken if hidden is None else np.where(taken == UNKNOWN, hidden, taken)
    labels, origins, clashes = apply_exclusions(table.labels, table.origins, exclusions)
    table = replace(table, labels=labels, origins=origins)
    labels, origins, of_patients = exclude_by_patient(table, rules, held)
    table = replace(table, labels=labels, origins=origins)
    conflicts = pd.concat([conflicts, implied, exclusion_conflicts(table, clashes)], ignore_index=True)
    if len(chosen) < len(table.classes):
        table, count = table.select_classes(chosen), len(chosen)
        hidden = None if hidden is None else hidden[:, :count]
        exclusions = Exclusions(exclusions.matrices[:, :count, :count], exclusions.rows)
        conflicts = conflicts[conflicts["class"].isin(chosen)].reset_index(drop=True)
    report = AssemblyReport(
        coverage=table.coverage(),
        assumed=table.assumed_counts(),
        splits=split_counts(table),
        duplicates=duplicates,
        alike=alike,
        conflicts=conflicts,
        moved=moves,
        subgroups=subgroup_counts(table),
        masks=mask_counts(table),
        notes=(
            *told,
            *odd,
            *said_twice,
            *of_patients,
            *table_notes(table, hidden, unread),
            *rules.notes(table.origins, held, table.noun),
        ),
        split_notes=split_notes(table, published=published),
        noun=table.noun,
    )
    return Assembly(table, report, exclusions, voxel_exclusions, policies, _hidden_table(table, hidden))


def _hidden_table(table: Table, hidden: NDArray[np.int8] | None) -> Table | None:
    if hidden is None or not (hidden != UNKNOWN).any():
        return None
    rows = np.flatnonzero((hidden != UNKNOWN).any(axis=1))
    texts = {name: getattr(table, name)[rows] for name in TEXT_FIELDS}
    labels = hidden[rows]
    fields = {**texts, "labels": labels, "origins": np.zeros(labels.shape, dtype=np.uint8)}
    return Table(table.classes, **fields, mask_values=table.mask_values)
