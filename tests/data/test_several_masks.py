"""Images that have a mask in several rows: knowledge is added up, contradictions are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from labelassemble.data import SplitOptions, Table, VolumesSource, assemble
from labelassemble.data.mask_files import read_mask
from labelassemble.data.masks import voxel_targets
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.detection import patients_of
from labelassemble.evaluation.detection_case import DetectionCase, record_case

SHAPE = (6, 5, 4)
Masks = dict[str, NDArray[Any]]


def masks(**values: dict[int, tuple[slice | int, ...]]) -> Masks:
    """Return a mask for each image, in which each value stands at its place."""
    found = {name: np.zeros(SHAPE, np.uint8) for name in values}
    for name, places in values.items():
        for value, place in places.items():
            found[name][place] = value
    return found


ONE = masks(p={1: (1, 1, slice(0, 2))}, q={2: (2, 2, 2)})
TWO = masks(p={7: (slice(1, 4), 1, 1)}, q={9: (0, 0, 0)})


def save(path: Path, arrays: Masks) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def source(folder: Path, name: str, drawn: Masks, labels: dict[int, str], **options: object) -> VolumesSource:
    """Write masks of the images and a table, and return the source of them."""
    save(folder / "images.npz", {case: np.ones(SHAPE, np.float32) for case in drawn})
    save(folder / f"{name}.npz", drawn)
    rows = [f"images.npz::{case},{name}.npz::{case},p{case}" for case in drawn]
    (folder / f"{name}.csv").write_text("\n".join(["image,mask,patient", *rows]) + "\n")
    given = {"name": name, "path": folder / f"{name}.csv", "masks": {"labels": labels}, **options}
    return VolumesSource.model_validate(given)


def assembled(folder: Path, second: Masks, labels: dict[int, str], **options: object) -> Table:
    """Return the table of a source that draws PDAC and cyst, and of another one on the same images."""
    sources = [
        source(folder, "one", ONE, {1: "PDAC", 2: "cyst"}),
        source(folder, "two", second, labels, **options),
    ]
    return assemble(sources, split=SplitOptions(val=0.4)).table


def test_what_two_masks_of_an_image_know_is_added_up(tmp_path: Path) -> None:
    table = assembled(tmp_path, TWO, {7: "organ", 9: "stone"})
    assert table.classes == ("PDAC", "cyst", "organ", "stone")
    assert table.sources.tolist() == ["one", "one", "two", "two"]
    assert len(set(zip(table.groups.tolist(), table.splits.tolist(), strict=True))) == 2
    for case in ("p", "q"):
        expected = np.stack([ONE[case] == 1, ONE[case] == 2, TWO[case] == 7, TWO[case] == 9]).astype(
            np.float32
        )
        known = np.full_like(expected, np.nan)
        for row in range(4):
            if str(table.paths[row]).endswith(f"::{case}"):
                drawn = read_mask(str(table.masks[row])).values
                targets = voxel_targets(drawn, table.drawn(row), table.labels[row], 4)
                assert np.isnan(known)[~np.isnan(targets)].all()  # nothing is counted twice
                known = np.where(np.isnan(targets), known, targets)
        np.testing.assert_array_equal(known, expected)


def test_a_class_that_two_masks_draw_otherwise_is_named_with_both_files(tmp_path: Path) -> None:
    with pytest.raises(LabelAssembleError) as found:
        assembled(tmp_path, TWO, {7: "PDAC", 9: "stone"})
    assert str(found.value) == (
        f"{tmp_path}/two.npz::p: draws 'PDAC' in other voxels than {tmp_path}/one.npz::p (3 voxels are of it in one "
        f"alone), and both are masks of {tmp_path}/images.npz::p: say `hide: ['PDAC']` in the source 'one' or 'two', "
        "or leave one out"
    )
    table = assembled(tmp_path, TWO, {7: "PDAC", 9: "stone"}, hide=("PDAC",))
    assert [sorted(table.drawn(row).values()) for row in range(4)] == [[0, 1], [0, 1], [2], [2]]
    assert table.labels.tolist() == [[1, 0, -1], [0, 1, -1], [-1, -1, 0], [-1, -1, 1]]


def test_two_readers_of_one_source_must_agree(tmp_path: Path) -> None:
    two = source(tmp_path, "one", ONE, {1: "PDAC", 2: "cyst"})
    again = {case: mask.copy() for case, mask in ONE.items()}
    save(tmp_path / "again.npz", again)
    assert two.path is not None
    two.path.write_text(two.path.read_text() + "images.npz::q,again.npz::q,pq\n")
    assert len(assemble([two]).table) == 2  # the same voxels
    again["q"][5, 4, 3] = 2
    save(tmp_path / "again.npz", again)
    with pytest.raises(
        LabelAssembleError, match=r"again.npz::q: draws 'cyst' .*one.npz::q \(1 voxels .*: leave one of them"
    ):
        assemble([two])


def test_a_class_that_two_masks_draw_alike_counts_once(tmp_path: Path) -> None:
    alike = masks(p={7: (1, 1, slice(0, 2))}, q={9: (0, 0, 0)})
    table = assembled(tmp_path, alike, {7: "PDAC", 9: "stone"})
    assert [sorted(table.drawn(row).values()) for row in range(4)] == [[0, 1], [0, 1], [2], [2]]
    assert table.labels[2:, 0].tolist() == [-1, -1]
    same = {"p": alike["p"], "q": np.zeros(SHAPE, np.uint8)}
    assert len(assembled(tmp_path, same, {7: "PDAC"})) == 2


def test_what_is_said_of_an_image_counts_with_several_masks(tmp_path: Path) -> None:
    table = tmp_path / "said.csv"
    table.write_text("image,patient,organ,stone\nimages.npz::p,pp,0,1\n")
    given = {"name": "said", "path": table, "classes": ("organ", "stone")}
    said = VolumesSource.model_validate(given)
    one = source(tmp_path, "one", ONE, {1: "PDAC", 2: "cyst"})
    two = source(tmp_path, "two", TWO, {7: "organ", 9: "stone"})
    for sources in ([one, two, said], [said, one, two]):
        found = assemble(sources).table
        assert len(found) == 4
        row = [str(mask) for mask in found.masks].index(f"{tmp_path}/two.npz::p")
        assert found.labels[row, [found.column("organ"), found.column("stone")]].tolist() == [1, -2]
        assert found.drawn(row) == {7: found.column("organ")}


def test_an_image_with_two_masks_is_one_image_of_its_patient(tmp_path: Path) -> None:
    table, options = assembled(tmp_path, TWO, {7: "organ", 9: "stone"}), DetectionOptions()
    records = []
    for row in range(4):
        maps = np.stack([np.full(SHAPE, value) for value in (0.3, 0.4, 0.5, 0.6)])
        drawn = read_mask(str(table.masks[row])).values
        records.append(record_case(DetectionCase(maps, table.labels[row], drawn, table.drawn(row)), options))
    patients = patients_of(table, records, options)
    assert patients.labels.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    np.testing.assert_allclose(patients.probabilities, [[0.3, 0.4, 0.5, 0.6]] * 2, rtol=1e-6)
    for column in range(4):
        assert sum(record.classes[column] is not None for record in records) == 2
