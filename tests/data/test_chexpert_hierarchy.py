"""Blanks of CheXpert and MIMIC-CXR that mean negative, unless the publisher's hierarchy says otherwise."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from labelassemble.data import CheXpertSource, MimicCxrSource, SplitOptions, Table, Taxonomy, assemble
from labelassemble.data.readers.chexpert import CHEXPERT_CLASSES
from labelassemble.data.readers.mimic import MIMIC_CLASSES

CARDIAC = "Enlarged Cardiomediastinum"
KINDS = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")
Source = CheXpertSource | MimicCxrSource
PUBLISHERS = pytest.mark.parametrize("publisher", ["chexpert", "mimic"])


def source(folder: Path, publisher: str, rows: Sequence[Mapping[str, int]], **options: object) -> Source:
    """Return a source of one image a row, whose labels are those given and blanks else."""
    classes = CHEXPERT_CLASSES if publisher == "chexpert" else MIMIC_CLASSES
    cells = [",".join(f"{row[name]}.0" if name in row else "" for name in classes) for row in rows]
    if publisher == "chexpert":
        head = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(classes) + "\n"
        for part in ("train", "valid"):
            lines = [
                f"CheXpert-v1.0/{part}/patient{number:05}/study1/view1_frontal.jpg,Male,60,Frontal,AP,{cell}\n"
                for number, cell in enumerate(cells)
            ]
            text = head + "".join(lines if part == "train" else lines[:0])
            (folder / f"{part}.csv").write_text(text)
        return CheXpertSource.model_validate({"name": "s", "root": folder, **options})
    head = "subject_id,study_id," + ",".join(classes) + "\n"
    lines = [f"{10000000 + number},{50000000 + number},{cell}\n" for number, cell in enumerate(cells)]
    (folder / "mimic-cxr-2.0.0-chexpert.csv").write_text(head + "".join(lines))
    lines = [f"i{number},{50000000 + number},{10000000 + number},train\n" for number in range(len(rows))]
    (folder / "mimic-cxr-2.0.0-split.csv").write_text("dicom_id,study_id,subject_id,split\n" + "".join(lines))
    return MimicCxrSource.model_validate({"name": "s", "root": folder, **options})


def states(table: Table, row: int) -> dict[str, int]:
    """Return the states of one image that are not 0, by class."""
    found = zip(table.classes, table.labels[row].tolist(), strict=True)
    return {name: state for name, state in found if state != 0}


def unknown(*names: str) -> dict[str, int]:
    return dict.fromkeys(names, -1)


CASES: tuple[tuple[dict[str, int], dict[str, int]], ...] = (
    ({"Edema": 1}, {"Edema": 1, "Lung Opacity": 1}),
    ({"Cardiomegaly": 1}, {"Cardiomegaly": 1, CARDIAC: 1}),
    ({"Consolidation": 1}, {"Consolidation": 1, "Lung Opacity": 1} | unknown("Pneumonia")),
    ({"Pneumonia": 1}, {"Pneumonia": 1, "Consolidation": 1, "Lung Opacity": 1}),
    ({"Lung Opacity": 1}, {"Lung Opacity": 1} | unknown(*KINDS)),
    ({"Lung Opacity": 1, "Edema": 1}, {"Lung Opacity": 1, "Edema": 1}),
    ({CARDIAC: 1}, {CARDIAC: 1} | unknown("Cardiomegaly")),
    # uncertain: above, below, and what no finding would be
    ({"Pneumonia": -1}, {"Pneumonia": -2} | unknown("No Finding", "Lung Opacity", "Consolidation")),
    ({"Pneumonia": -1, "Edema": 1}, {"Pneumonia": -2, "Edema": 1, "Lung Opacity": 1, "Consolidation": -1}),
    ({"Lung Opacity": -1}, {"Lung Opacity": -2} | unknown("No Finding", *KINDS)),
    ({"Cardiomegaly": -1, "Fracture": 1}, {"Cardiomegaly": -2, "Fracture": 1, CARDIAC: -1}),
    (
        {"Cardiomegaly": -1, "Support Devices": 1},
        {"Cardiomegaly": -2, "Support Devices": 1} | unknown("No Finding", CARDIAC),
    ),
    # what is written stays
    ({"Edema": 1, "Lung Opacity": 0}, {"Edema": 1}),
    ({"Edema": -1, "Lung Opacity": 0, "No Finding": 0}, {"Edema": -2}),
    (
        {"Lung Opacity": 1, "Edema": 0, "Consolidation": 0},
        {"Lung Opacity": 1} | unknown("Lung Lesion", "Pneumonia", "Atelectasis"),
    ),
    ({"Lung Opacity": 0}, {}),
    ({"Support Devices": 1}, {"Support Devices": 1}),
    ({"No Finding": 1}, {"No Finding": 1}),
    ({}, unknown(*CHEXPERT_CLASSES)),
)


@PUBLISHERS
def test_blanks_follow_the_hierarchy(tmp_path: Path, publisher: str) -> None:
    given = source(tmp_path, publisher, [row for row, _ in CASES], blank="negative")
    table = given.read()
    for number, (row, expected) in enumerate(CASES):
        assert states(table, number) == expected, row
    thorax = assemble(
        [given],
        taxonomy=Taxonomy.load("thorax"),
        classes=["Edema", CARDIAC],
        split=SplitOptions(val=0, test=0),
    ).table
    assert thorax.labels[[1, 4, 7]].tolist() == [[0, 1], [-1, 0], [0, 0]]


@PUBLISHERS
def test_what_the_hierarchy_settles_is_told(tmp_path: Path, publisher: str) -> None:
    rows: list[dict[str, int]] = [{"Edema": 1}, {"Edema": 1}, {CARDIAC: 1}, {"Cardiomegaly": -1}]
    head = "blanks that the publisher's hierarchy makes"
    notes = source(tmp_path, publisher, rows, blank="negative").read().notes
    assert f"{head} positive, as a kind of theirs is, by images: 'Lung Opacity' 2" in notes
    open_ones = {"No Finding": 1, CARDIAC: 1, "Cardiomegaly": 1}
    order = CHEXPERT_CLASSES if publisher == "chexpert" else MIMIC_CLASSES
    named = ", ".join(f"'{name}' {open_ones[name]}" for name in order if name in open_ones)
    assert f"{head} unknown, as a general class or a kind leaves them open, by images: {named}" in notes
    notes = source(tmp_path, publisher, [{"Fracture": 1}], blank="negative").read().notes
    assert not any(head in note for note in notes)


@PUBLISHERS
def test_blanks_that_are_unknown_stay_unknown(tmp_path: Path, publisher: str) -> None:
    table = source(tmp_path, publisher, [row for row, _ in CASES]).read()
    for number, (row, _) in enumerate(CASES):
        written = {name: {-1: -2}.get(state, state) for name, state in row.items()}
        found = dict(zip(table.classes, table.labels[number].tolist(), strict=True))
        assert found == unknown(*table.classes) | written
    assert not any("hierarchy" in note for note in table.notes)
