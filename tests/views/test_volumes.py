"""Volumes as the network sees them, and the batches of their crops."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from labelassemble.data import Table
from labelassemble.data.errors import ImageError
from labelassemble.data.exclusion import Exclusions
from labelassemble.data.new_table import new_table
from labelassemble.errors import LabelAssembleError
from labelassemble.training.accumulate import count
from labelassemble.training.dice import soft_dice_loss
from labelassemble.views.batch import Batch
from labelassemble.views.crops import Case, draw_crop, strong_crop, weak_crop
from labelassemble.views.sampler import Sampler
from labelassemble.views.volume_options import (
    StrongVolumeOptions,
    VolumeOptions,
    WeakVolumeOptions,
)
from labelassemble.views.volumes import VolumeViews, load_case, load_mask, to_stored

CLASSES = ("PDAC", "cyst", "PanNET")
PLAIN = WeakVolumeOptions(noise=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four volumes of other sizes with masks in NumPy archives, the last of them smaller than a patch."""
    place = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    images, masks = {}, {}
    for index, shape in enumerate([(20, 24, 18), (17, 30, 21), (25, 19, 20), (6, 20, 9)]):
        images[f"case{index}"] = rng.integers(0, 200, shape).astype(np.uint8)
        mask = np.zeros(shape, dtype=np.uint8)
        mask[3:5, 2:9, 1:4] = 1
        mask[0, -1, 0] = 2  # one voxel, on the border
        masks[f"case{index}"] = mask
    np.savez(place / "images.npz", **images)
    np.savez(place / "masks.npz", **masks)
    return place


def cases(folder: Path) -> Table:
    names = [f"case{index}" for index in range(4)]
    return new_table(
        CLASSES,
        paths=[f"{folder}/images.npz::{name}" for name in names],
        names=names,
        labels=np.array([[1, 1, -1], [1, 1, 0], [1, 1, 1], [-1, 0, -1]], dtype=np.int8),
        sources="a",
        groups=names,
        splits=["train"] * 4,
        masks=[*(f"{folder}/masks.npz::{name}" for name in names[:3]), ""],
        mask_values={"a": {1: "PDAC", 2: "cyst"}},
    )


def batches(
    folder: Path, *, epoch: int = 1, first: int = 0, strong: bool = True, **changed: Any
) -> list[Batch]:
    options = VolumeOptions(**{"patch": (8, 8, 8), "crops_per_case": 2, **changed})
    views = VolumeViews(cases(folder), options, Sampler(4, batch_size=3, seed=7))
    return list(views.epoch(epoch, strong=strong, first_step=first))


def assert_same(found: Batch, expected: Batch) -> None:
    assert found.step == expected.step
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_a_batch_has_the_crops_of_each_case(folder: Path) -> None:
    found = batches(folder)
    assert [batch.step for batch in found] == [0, 1]
    assert sorted(torch.cat([batch.rows for batch in found]).tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    for batch in found:
        assert batch.strong is not None
        count = len(batch.rows)
        assert batch.weak.shape == batch.strong.shape == (count, 1, 8, 8, 8)
        assert batch.targets.shape == (count, 3, 8, 8, 8)
        assert batch.weak.dtype == batch.strong.dtype == batch.targets.dtype == torch.float32
        assert not torch.equal(batch.weak, batch.strong)


@pytest.mark.parametrize(
    "changed", [{"threads": 1}, {"threads": 3}, {"cache_mb": 0}, {"threads": 2, "cache_mb": 0}]
)
def test_crops_are_the_same_from_any_step_and_with_any_threads(folder: Path, changed: dict[str, Any]) -> None:
    whole = batches(folder)
    for first in range(2):
        later = batches(folder, first=first, **changed)
        assert len(later) == 2 - first
        for found, expected in zip(later, whole[first:], strict=True):
            assert_same(found, expected)
    assert not torch.equal(batches(folder, epoch=2)[0].weak, whole[0].weak)


def test_without_a_strong_view_the_weak_one_stays_as_it_is(folder: Path) -> None:
    for found, expected in zip(batches(folder, strong=False), batches(folder), strict=True):
        assert found.strong is None
        assert_same(found, expected._replace(strong=None))


def test_two_processes_have_the_crops_of_one(folder: Path) -> None:
    options = VolumeOptions(patch=(8, 8, 8))
    whole = next(
        iter(VolumeViews(cases(folder), options, Sampler(4, batch_size=4, seed=7)).epoch(0, strong=True))
    )
    parts = [
        next(
            iter(
                VolumeViews(
                    cases(folder), options, Sampler(4, batch_size=4, seed=7, rank=rank, world_size=2)
                ).epoch(0, strong=True)
            )
        )
        for rank in range(2)
    ]
    together = Batch(0, *(torch.cat([part[index] for part in parts]) for index in range(1, 5)))  # type: ignore[arg-type]
    assert_same(together, whole)


def test_targets_know_what_each_case_says(folder: Path) -> None:
    for batch in batches(folder, positive_share=1.0):
        for row, targets in zip(batch.rows.tolist(), batch.targets, strict=True):
            known = [not bool(target.isnan().any()) for target in targets]
            unknown = [bool(target.isnan().all()) for target in targets]
            if row == 3:  # nothing is drawn; "no cyst" holds for the whole case, six of eight voxels high
                assert unknown == [True, False, True]
                assert torch.isnan(targets[1]).flatten(1).all(dim=1).tolist() == [True, *[False] * 6, True]
                assert (targets[1, 1:7] == 0).all()
                continue
            assert known == [True, True, row == 1]
            assert unknown == [False, False, row != 1]
            assert targets[:2].sum() > 0  # the crop has a drawn voxel


def test_the_views_show_the_voxels_that_the_targets_are_of(tmp_path: Path) -> None:
    image = np.arange(4 * 12 * 10 * 9, dtype=np.float32).reshape(4, 12, 10, 9)[0]
    mask = (image > 500).astype(np.uint8)  # follows from the intensities
    np.savez(tmp_path / "a.npz", image=image, mask=mask)
    table = new_table(
        ["c"],
        paths=[f"{tmp_path}/a.npz::image"],
        names=["a"],
        labels=np.array([[1]], dtype=np.int8),
        sources="a",
        groups=["a"],
        splits=["train"],
        masks=[f"{tmp_path}/a.npz::mask"],
        mask_values={"a": {1: "c"}},
    )
    options = VolumeOptions(
        patch=(8, 8, 8),
        crops_per_case=8,
        percentiles=(0, 100),
        weak=PLAIN,
        strong=StrongVolumeOptions(noise=0, blur=0, brightness=0, contrast=0, cutouts=0),
    )
    batch = next(iter(VolumeViews(table, options, Sampler(1, batch_size=1, seed=0)).epoch(0, strong=True)))
    expected = (batch.weak * (image.size - 1) > 500.5).float()
    torch.testing.assert_close(batch.targets, expected)
    torch.testing.assert_close(batch.strong, batch.weak)


def test_voxels_of_one_class_may_be_none_of_another(folder: Path) -> None:
    apart = ~np.eye(3, dtype=bool)
    exclusions = Exclusions(apart[None], np.zeros(4, dtype=np.int64))
    options = VolumeOptions(patch=(8, 8, 8), positive_share=1.0)
    views = VolumeViews(cases(folder), options, Sampler(4, batch_size=4, seed=7), exclusions=exclusions)
    batch = next(iter(views.epoch(0, strong=False)))
    targets = batch.targets[batch.rows == 0][0]
    drawn = (targets[0] == 1) | (targets[1] == 1)
    assert (targets[2][drawn] == 0).all()
    assert targets[2][~drawn].isnan().all()


def test_a_case_that_cannot_be_read_is_left_out_and_counted(folder: Path) -> None:
    table = cases(folder)
    paths = [f"{folder}/images.npz::nobody", *table.paths[1:].tolist()]
    labels = {"labels": table.labels, "sources": "a", "groups": table.groups, "splits": table.splits}
    table = new_table(CLASSES, paths=paths, names=table.names, **labels)  # type: ignore[arg-type]
    options = VolumeOptions(patch=(8, 8, 8), bad_files_limit=0.5)
    views = VolumeViews(table, options, Sampler(4, batch_size=1, seed=7))
    sizes = [len(batch.rows) for batch in views.epoch(0, strong=True)]
    assert sorted(sizes) == [0, 1, 1, 1]
    assert list(views.bad_files.errors) == [0]
    few = VolumeViews(
        table, options.model_copy(update={"bad_files_limit": 0.1}), Sampler(4, batch_size=4, seed=7)
    )
    with pytest.raises(LabelAssembleError, match=r"1 of 4 cases cannot .* volumes\.bad_files_limit = 0\.1"):
        list(few.epoch(0, strong=True))


def draw(case: Case, options: VolumeOptions, seed: int, drawn: tuple[int, ...] = (1, 2)) -> Any:
    return draw_crop(case, drawn, options, np.random.default_rng(seed))


def test_half_of_the_crops_are_centred_on_a_drawn_voxel() -> None:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[40, 21], mask[30, 30:34] = 2, 1
    case = Case.of(np.zeros((64, 64), dtype=np.float32), mask)
    options = VolumeOptions(patch=(8, 8), flip=0)
    at_centre = [draw(case, options, seed).mask[4, 4] for seed in range(1000)]
    # each of the two values as often as the other, though one has four voxels
    assert 200 < np.count_nonzero(np.equal(at_centre, 1)) < 300
    assert 200 < np.count_nonzero(np.equal(at_centre, 2)) < 300
    only = [draw(case, options, seed, drawn=(2,)).mask[4, 4] for seed in range(200)]
    assert 70 < np.count_nonzero(np.equal(only, 2)) < 130


def test_a_drawn_voxel_on_the_border_is_in_the_crop() -> None:
    mask = np.zeros((20, 20), dtype=np.uint8)
    mask[19, 0] = 1
    case = Case.of(np.zeros((20, 20), dtype=np.float32), mask)
    for seed in range(20):
        assert draw(case, VolumeOptions(patch=(8, 8), positive_share=1), seed).mask.sum() == 1


def test_a_volume_smaller_than_the_patch_lies_in_its_middle() -> None:
    case = Case.of(np.ones((4, 30, 3), dtype=np.float32), np.ones((4, 30, 3), dtype=np.uint8))
    crop = draw(case, VolumeOptions(patch=(8, 8, 8), flip=0), 0)
    assert crop.image.shape == crop.mask.shape == (8, 8, 8)
    expected = np.zeros((8, 8, 8))
    expected[2:6, :, 2:5] = 1
    np.testing.assert_array_equal(crop.image, expected)
    np.testing.assert_array_equal(crop.mask, expected)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_what_lies_beyond_the_volume_is_unknown(tmp_path: Path, flip: float) -> None:
    """Not background: no source has looked there, so neither loss, Dice nor counts may take it as an absent class."""
    mask = np.zeros((4, 30, 3), dtype=np.uint8)
    mask[1, :, 2] = 1
    np.savez(tmp_path / "a.npz", image=np.ones(mask.shape, np.uint8), mask=mask)
    table = new_table(
        CLASSES,
        paths=[f"{tmp_path}/a.npz::image"],
        names=["a"],
        labels=np.array([[1, 0, -1]], dtype=np.int8),  # drawn, known to be absent, unknown
        sources="a",
        groups=["a"],
        splits=["train"],
        masks=[f"{tmp_path}/a.npz::mask"],
        mask_values={"a": {1: "PDAC"}},
    )
    views = VolumeViews(table, VolumeOptions(patch=(8, 8, 8), flip=flip), Sampler(1, batch_size=1, seed=0))
    (batch,) = views.epoch(0, strong=False)
    held = np.full((8, 8, 8), np.nan)
    held[(slice(2, 6), slice(None), slice(3, 6)) if flip else (slice(2, 6), slice(None), slice(2, 5))] = 0
    drawn = held.copy()
    drawn[(4, slice(None), 3) if flip else (3, slice(None), 4)] = 1
    np.testing.assert_array_equal(batch.targets[0], [drawn, held, np.full((8, 8, 8), np.nan)])
    known = 2 * 4 * 8 * 3
    assert count(batch.targets)[:3] == (1, known, 3 * 8**3 - known)
    # the Dice of the class that is called everywhere is that within the volume: 8 of 96 voxels are drawn
    dice = soft_dice_loss(torch.full((1, 3, 8, 8, 8), 50.0), batch.targets)
    assert float(dice) == pytest.approx((1 - 2 * 8 / (96 + 8) + 1) / 2)


def test_each_axis_is_mirrored_half_of_the_times() -> None:
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    case = Case.of(image, np.zeros((8, 8), dtype=np.uint8))
    corners = [draw(case, VolumeOptions(patch=(8, 8)), seed).image[0, 0] for seed in range(400)]
    counts = [corners.count(value) for value in (0, 7, 56, 63)]
    assert sum(counts) == 400
    assert min(counts) > 70
    assert {draw(case, VolumeOptions(patch=(8, 8), flip=0), seed).image[0, 0] for seed in range(9)} == {0}


def test_the_weak_view_changes_little_and_the_strong_one_loses_boxes() -> None:
    image = np.full((32, 32), 0.5, dtype=np.float32)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(weak_crop(image, PLAIN, rng), image)
    weak = weak_crop(image, WeakVolumeOptions(), rng)
    assert 0.008 < weak.std() < 0.012
    lost = strong_crop(image, StrongVolumeOptions(noise=0, brightness=0, contrast=0, cutouts=1), rng) != image
    assert 9 <= np.count_nonzero(lost) <= 100  # 3 x 3 to 10 x 10
    np.testing.assert_array_equal(image, 0.5)  # what is kept in memory stays


def test_blur_contrast_and_brightness() -> None:
    image = np.zeros((16, 16), dtype=np.float32)
    image[8, 8] = 1
    rng = np.random.default_rng(3)
    blurred = [weak_crop(image, WeakVolumeOptions(noise=0, blur=3.0), rng) for _ in range(10)]
    assert min(view.max() for view in blurred) < 0.1
    assert [float(view.sum()) for view in blurred] == pytest.approx([1] * 10, rel=1e-3)
    flat = [weak_crop(image, WeakVolumeOptions(noise=0, contrast=0.5), rng) for _ in range(20)]
    for view in flat:
        assert view.mean() == pytest.approx(image.mean(), abs=1e-6)
        assert 0.5 <= np.ptp(view) <= 1.5
    shifts = [weak_crop(image, WeakVolumeOptions(noise=0, brightness=0.2), rng)[0, 0] for _ in range(20)]
    assert -0.2 <= min(shifts) < 0 < max(shifts) <= 0.2


def save(path: Path, values: NDArray[Any], affine: NDArray[np.float64]) -> str:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return str(path)


def oblique() -> NDArray[np.float64]:
    """Return an affine whose axes run to the back, left and top, turned by ten degrees, with three spacings."""
    angle = np.deg2rad(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[0, -0.8, 0], [-1.5, 0, 0], [0, 0, 2.0]])
    affine[:3, 3] = (30, 40, -20)
    return affine


def test_a_volume_is_turned_resampled_and_scaled(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    affine = oblique()
    # the intensity says where a voxel lies: 3 x right + 2 x front - top, in mm
    places = np.stack(np.meshgrid(*map(np.arange, (14, 20, 12)), indexing="ij"))
    world = np.tensordot(affine[:3, :3], places, 1) + affine[:3, 3].reshape(3, 1, 1, 1)
    values = np.tensordot([3.0, 2.0, -1.0], world, 1).astype(np.float32)
    path = save(tmp_path / "a.nii.gz", values, affine)
    options = VolumeOptions(patch=(8, 8, 8), spacing=(1.0, 1.0, 1.0), window=(-1000.0, 1000.0))
    volume = load_case(path, options)
    assert volume.spacing == pytest.approx((1, 1, 1), abs=1e-6)
    assert volume.affine is not None
    assert (np.diag(volume.affine)[:3] > 0.9).all()  # right, front, top
    inside = tuple(slice(3, -3) for _ in range(3))
    places = np.stack(np.meshgrid(*map(np.arange, volume.image.shape), indexing="ij"))
    world = np.tensordot(volume.affine[:3, :3], places, 1) + volume.affine[:3, 3].reshape(3, 1, 1, 1)
    expected = (np.tensordot([3.0, 2.0, -1.0], world, 1) + 1000) / 2000
    np.testing.assert_allclose(volume.image[inside], expected[inside], atol=1e-4)
    back = to_stored(volume.image, volume)
    assert back.shape == values.shape
    np.testing.assert_allclose(back[inside], ((values + 1000) / 2000)[inside], atol=1e-4)


@pytest.mark.parametrize("spacing", [None, (0.8, 1.5, 2.0)])
def test_a_volume_that_is_only_turned_comes_back_as_it_was(
    tmp_path: Path, spacing: tuple[float, ...] | None
) -> None:
    pytest.importorskip("monai")
    values = np.random.default_rng(0).normal(size=(5, 7, 4)).astype(np.float32)
    path = save(tmp_path / "a.nii", values, oblique())
    mask = save(tmp_path / "m.nii", (values > 0).astype(np.uint8), oblique())
    volume = load_case(path, VolumeOptions(patch=(8, 8, 8), spacing=spacing, window=(-8.0, 8.0)))
    assert volume.resampled is None
    assert volume.image.shape == (7, 5, 4)
    assert volume.spacing == pytest.approx((0.8, 1.5, 2.0))
    drawn = load_mask(mask, volume)
    np.testing.assert_array_equal(drawn, volume.image > 0.5)
    assert drawn.dtype == np.uint8
    both = to_stored(np.stack([volume.image, drawn.astype(np.float32)]), volume)
    np.testing.assert_allclose(both[0], (values + 8) / 16, atol=1e-6)
    np.testing.assert_array_equal(both[1], values > 0)


def test_a_mask_is_resampled_by_the_nearest_voxel(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    values = np.zeros((12, 12, 6), dtype=np.int16)
    values[4:8, 4:8, 2:4] = 300
    path = save(tmp_path / "a.nii.gz", values, affine)
    mask = save(tmp_path / "m.nii.gz", (values > 0) * np.int16(7), affine)
    volume = load_case(path, VolumeOptions(patch=(8, 8, 8), spacing=(1.0, 1.0, 1.0)))
    drawn = load_mask(mask, volume)
    assert drawn.shape == volume.image.shape == (12, 12, 16)
    assert set(np.unique(drawn)) == {0, 7}
    np.testing.assert_array_equal(drawn[5, 5] == 7, volume.image[5, 5] > 0.5)
    back = to_stored(drawn.astype(np.float32), volume, nearest=True)
    np.testing.assert_array_equal(back, (values > 0) * 7.0)


def test_a_slice_keeps_its_axes_and_is_resampled(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    values = np.tile(np.arange(20, dtype=np.float32), (30, 1))
    path = save(tmp_path / "a.nii", values[:, :, None], np.diag([-2.0, 1.0, 5.0, 1.0]))
    volume = load_case(path, VolumeOptions(patch=(8, 8), spacing=(1.0, 1.0), window=(0.0, 19.0)))
    assert volume.image.shape == (59, 20)
    assert volume.spacing == (1, 1)
    np.testing.assert_allclose(volume.image[30], np.arange(20) / 19, atol=1e-5)
    assert to_stored(volume.image, volume).shape == (30, 20)


def test_percentiles_are_those_of_the_volume_and_a_window_is_the_same_for_all(tmp_path: Path) -> None:
    values = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    np.savez(tmp_path / "a.npz", a=values, flat=np.full((8, 8, 8), 7))
    options = VolumeOptions(patch=(8, 8, 8), percentiles=(10.0, 90.0))
    image = load_case(f"{tmp_path}/a.npz::a", options).image
    np.testing.assert_allclose(image, np.clip((values - 99.9) / 799.2, 0, 1), atol=1e-5)
    window = options.model_copy(update={"window": (-100.0, 240.0)})
    image = load_case(f"{tmp_path}/a.npz::a", window).image
    np.testing.assert_allclose(image, np.clip((values + 100) / 340, 0, 1), atol=1e-6)
    assert not load_case(f"{tmp_path}/a.npz::flat", options).image.any()


def test_what_is_wrong_with_an_image_is_said(tmp_path: Path) -> None:
    values = np.zeros((8, 9, 10), dtype=np.float32)
    values[1, 2, 3], values[2, 2, 2] = np.nan, np.inf
    np.savez(tmp_path / "a.npz", a=values, text=np.array(["a"]), none=np.zeros((0, 3, 3)))
    options = VolumeOptions(patch=(8, 8, 8))
    for name, changed, message in (
        ("a", {}, "a.npz::a: 2 of its 720 voxels are NaN or infinite"),
        ("a", {"patch": (8, 8)}, r"patch has 2 numbers, so an image must have 2 axes, got \[8, 9, 10\]"),
        ("text", {}, "the voxels of an image must be numbers"),
        ("none", {}, "the image has no voxels"),
    ):
        with pytest.raises(ImageError, match=message):
            load_case(f"{tmp_path}/a.npz::{name}", options.model_copy(update=changed))
    with pytest.raises(
        ImageError, match=r"name the one that is meant, as .*a\.npz::a, or of a stack one entry"
    ):
        load_case(f"{tmp_path}/a.npz", options)
    np.savez(tmp_path / "b.npz", a=np.zeros((8, 8, 8)), m=np.zeros((8, 8, 7), dtype=np.uint8))
    with pytest.raises(ImageError, match="does not say how large its voxels are"):
        load_case(f"{tmp_path}/b.npz::a", options.model_copy(update={"spacing": (1.0, 1.0, 1.0)}))
    with pytest.raises(ImageError, match=r"m: a mask must have the shape of its image, \[8, 8, 8\]"):
        load_mask(f"{tmp_path}/b.npz::m", load_case(f"{tmp_path}/b.npz::a", options))


def test_a_spacing_that_would_fill_the_memory_is_one_sentence(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((8, 9, 10), np.float32), oblique())
    with pytest.raises(
        ImageError, match=r"would make 1\.7e\+15 voxels of it.*0\.8 x 1\.5 x 2 mm, and 0\.0001 x"
    ):
        load_case(path, VolumeOptions(patch=(8, 8, 8), spacing=(1e-4, 1e-4, 1e-4)))
    turned = np.array([[0, 0, 3.0, 0], [1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1.0]])  # axes run A, S, R
    path = save(tmp_path / "b.nii", np.zeros((8, 9, 10), np.float32), turned)
    with pytest.raises(ImageError, match=r"spacing is 3 x 1 x 2 mm, and 0\.0003 x 0\.0001 x 0\.0002 mm"):
        load_case(path, VolumeOptions(patch=(8, 8, 8), spacing=(3e-4, 1e-4, 2e-4)))


@pytest.mark.parametrize("spacing", [None, (4.0, 4.0, 4.0), (1.5, 2.0, 8.0), (8.0, 2.0, 1.5)])
def test_a_doubly_oblique_volume_comes_back_as_it_was(
    tmp_path: Path, spacing: tuple[float, ...] | None
) -> None:
    """Two of its axes are nearest to the same side of the body."""
    pytest.importorskip("monai")
    affine = np.eye(4)
    affine[:3, :3] = np.array([[2, -1, -2], [2, 2, 1], [1, -2, 2]]) / 3 @ np.diag([1.5, 8.0, 2.0])
    turns = [affine]
    for angle in (45.0, -45.0, 44.99999, 45.00001):
        turn = np.deg2rad(angle)
        other = np.eye(4)
        other[:3, :3] = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
        turns.append(other @ np.diag([1.5, 8.0, 2.0, 1.0]))
    smooth = np.sin(np.arange(9))[:, None, None] + np.cos(np.arange(13) / 3)[:, None] + np.arange(7) / 7
    for number, place in enumerate(turns):
        path = save(tmp_path / f"{number}.nii", smooth.astype(np.float32), place)
        volume = load_case(path, VolumeOptions(patch=(8, 8, 8), spacing=spacing, window=(-2.0, 3.0)))
        if spacing is not None:
            assert volume.spacing == pytest.approx(spacing, abs=2e-3)
        assert volume.affine is not None
        assert np.linalg.det(volume.affine[:3, :3]) > 0  # right, front, top
        back = to_stored(volume.image, volume)
        assert back.shape == smooth.shape
        if volume.resampled is None:
            np.testing.assert_allclose(back, (smooth + 2) / 5, atol=1e-6)
        else:
            assert np.corrcoef(back.reshape(-1), smooth.reshape(-1))[0, 1] > 0.7


def test_without_monai_a_volume_to_be_resampled_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.nii", np.zeros((8, 8, 8), dtype=np.float32), np.diag([-1.0, 1.0, 1.0, 1.0]))
    monkeypatch.setitem(__import__("sys").modules, "monai.data", None)
    with pytest.raises(ImageError, match=r"needs monai: pip install 'labelassemble\[ct\]'"):
        load_case(path, VolumeOptions(patch=(8, 8, 8), spacing=(2.0, 2.0, 2.0)))
    load_case(path, VolumeOptions(patch=(8, 8, 8)))  # it is turned without
