"""Patient ids that two sources have in common: a warning where chance would not give as many."""

import numpy as np
import pytest

from labelassemble.data import assemble
from labelassemble.data.coinciding import coinciding, patients_by_register
from labelassemble.data.readers.csv import CsvSource
from labelassemble.data.text import text_array

RNG = np.random.default_rng(0)
OURS, THEIRS = RNG.choice(10**8, 500, replace=False), RNG.choice(10**8, 400, replace=False)


def found(ours, theirs):
    return coinciding(*(text_array([str(item) for item in side]) for side in (ours, theirs)))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (range(1, 1001), range(1, 501)),  # both count their patients
        ([f"case-{i}" for i in range(300)], [f"case-{i}" for i in range(200)]),
        ([10 * i for i in range(300)], [10 * i for i in range(20, 200)]),
        ([f"{y}{i:04d}" for y in (2019, 2020, 2021) for i in range(90)], [f"2020{i:04d}" for i in range(60)]),
        (OURS, THEIRS),
        (RNG.choice(3000, 400, replace=False), RNG.choice(3000, 300, replace=False)),  # about 40 by chance
        (["a", "b"], ["c"]),
        ([], []),
        ([7], [7, 8, 9]),
    ],
)
def test_what_chance_would_give_is_no_coincidence(ours, theirs):
    assert found(ours, theirs) is None


def test_long_numbers_and_words_do_not_meet_by_chance():
    same = found(OURS, [*THEIRS, *OURS[:2]])
    assert (same.count, same.sizes) == (2, (500, 402))
    assert same.examples == tuple(f"'{item}'" for item in OURS[:2])
    assert same.expected < 0.01
    assert found([f"P{i}x" for i in range(5)], ["P3x", "Q"]).sentence("a", "b") == (
        "1 patient id is in both 'a' (5 patients) and 'b' (2), such as 'P3x', where chance would give none"
    )
    many = found([f"MRN{i}" for i in OURS], [f"MRN{i}" for i in [*THEIRS, *OURS[:9]]])
    assert many.count == 9
    assert "9 patient ids are in both" in many.sentence("a", "b")


def test_ids_are_known_by_register():
    groups = text_array(["nih:1", "nih:1", "nih:2", "clinic/a.png", "clinic:7:b", "", "clinic/x:y.png"])
    ids = {name: own.tolist() for name, own in patients_by_register(groups).items()}
    assert ids == {"nih": ["1", "2"], "clinic": ["7:b"]}


def sources(folder, theirs, **register):
    for name, ids in (("a", OURS[:30]), ("b", theirs)):
        rows = "\n".join(f"{name}{i}.png,{patient},{i % 2}" for i, patient in enumerate(ids))
        (folder / f"{name}.csv").write_text(f"path,patient,x\n{rows}\n")
    return [
        CsvSource(name=name, path=folder / f"{name}.csv", patient_column="patient", **register)
        for name in ("a", "b")
    ]


def test_a_table_of_two_sources_whose_ids_coincide_is_a_warning(tmp_path):
    notes = assemble(sources(tmp_path, [*THEIRS[:20], OURS[0]])).report.notes
    [note] = [note for note in notes if "in both" in note]
    assert note == (
        f"warning: 1 patient id is in both 'a' (30 patients) and 'b' (21), such as '{OURS[0]}', where chance would "
        "give none: if they are the same patients, say `patients: NAME` in both sources, so that none is in two splits"
    )
    assert not any("in both" in note for note in assemble(sources(tmp_path, THEIRS[:20])).report.notes)
    shared = assemble(sources(tmp_path, [*THEIRS[:20], OURS[0]], patients="city")).report.notes
    assert not any(note.startswith("warning") and "in both" in note for note in shared)
