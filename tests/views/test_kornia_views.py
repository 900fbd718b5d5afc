"""Views by a list of kornia's augmentations: what is said of a wrong one, what seeds it, and where geometry goes."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from labelassemble.config import Config, load_config
from labelassemble.data import Table
from labelassemble.data.new_table import new_table
from labelassemble.errors import LabelAssembleError
from labelassemble.views.batch import Batch
from labelassemble.views.choice import choose_backend
from labelassemble.views.crops import Crop
from labelassemble.views.kornia_views import KorniaList, read_list, view_lists, volume_lists
from labelassemble.views.options import ViewOptions, WeakOptions
from labelassemble.views.sampler import Sampler
from labelassemble.views.torch_backend import TorchViews
from labelassemble.views.volume_lists import moved_crop
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import VolumeViews

kornia = pytest.importorskip("kornia")  # a dependency that machines lack on which CUDA alone is tested
Cli = Callable[..., tuple[int, str, str]]

WEAK = [{"RandomAffine": {"degrees": 10, "p": 0.7}}]
STRONG = [
    {"RandomAffine": {"degrees": 15, "scale": [0.9, 1.1], "p": 0.5}},
    {"RandomGaussianBlur": {"kernel_size": [3, 3], "sigma": [0.1, 2.0], "p": 0.5}},
    {"RandomGaussianNoise": {"std": 0.1}},
    {"RandomErasing": {"p": 0.5}},
]


# --- what is said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (5, "'views.strong': entry 0 must be a class of kornia.augmentation with its arguments, such as"),
        ({"RandomAffine": 5}, "'views.strong': the arguments of entry 0, RandomAffine, must be a mapping"),
        (
            "RandomAfine",
            "unknown class 'RandomAfine' of kornia.augmentation in 'views.strong.0', did you mean 'Ran",
        ),
        (
            {"RandomAffine": {"degres": 15}},
            "unknown key 'views.strong.0.RandomAffine.degres', did you mean 'degrees'?",
        ),
        ("RandomAffine", "the key 'views.strong.0.RandomAffine.degrees' is missing"),
        (
            {"RandomAffine": {"degrees": "x"}},
            "'views.strong.0.RandomAffine.degrees' must be a number, or a list of 2 numbers, got 'x'",
        ),
        (
            {"RandomAffine": {"degrees": -5}},
            "'views.strong.0.RandomAffine': kornia refuses these arguments (If",
        ),
        ({"RandomInvert": {"p": 1.5}}, "'views.strong.0.RandomInvert.p' must be from 0 to 1, got 1.5"),
        (
            {"RandomHue": {"hue": [-0.1, 0.1]}},
            "'views.strong.0.RandomHue': kornia cannot apply it to an image of 1 x",
        ),
        ("RandomMixUpV2", "RandomMixUpV2 does not: it mixes images or their parts"),
        ("AugmentationSequential", "AugmentationSequential does not: it holds others"),
        (
            {"Normalize": {"mean": 0.5, "std": 0.1}},
            "'views.strong.0' must not be Normalize: views.mean and views.std",
        ),
        ("RandomHorizontalFlip3D", "must be one of kornia's classes whose names do not end in 3D"),
        (
            {"RandomCrop": {"size": [9, 9]}},
            "must keep the size of an image, 1 x 16 x 16, and makes it 1 x 9 x 9",
        ),
        ({"RandomGamma": {"gamma": [-9, -9]}}, "RandomGamma': kornia cannot apply it"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_key(
    cli: Cli, small_sources: Path, entry: object, sentence: str
) -> None:
    strong = yaml.safe_dump([entry], default_flow_style=True, width=1000).strip()
    status, _, err = cli("assemble", small_sources / "run.yaml", f"views.strong={strong}")
    assert (status, err.count("\n")) == (2, 1)
    assert sentence in err


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (
            {"patch": [16, 16], "strong": [{"RandomAffine": {"degrees": 5}}]},
            "volumes.strong: RandomAffine moves voxels, and the strong view must show the voxels of the weak one",
        ),
        ({"patch": [16, 16], "weak": ["RandomThinPlateSpline"]}, "kornia cannot move a mask by it"),
        (
            {
                "patch": [16, 16],
                "weak": [
                    {"RandomAffine": {"degrees": 90, "padding_mode": "fill", "fill_value": 1.0, "p": 0.01}}
                ],
            },
            "gives a mask of 5 and 7 the value 1",
        ),
        ({"patch": [16, 16, 16], "weak": ["RandomHorizontalFlip3D"]}, "kornia moves no masks of three axes"),
        (
            {"patch": [16, 16, 16], "weak": ["RandomInvert"]},
            "must be one of kornia's classes whose names end in 3D",
        ),
    ],
)
def test_what_a_mask_cannot_follow_is_refused(section: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LabelAssembleError, match=sentence):
        volume_lists(VolumeOptions.model_validate(section))


def test_keys_of_the_built_in_policy_are_named_as_before(cli: Cli, small_sources: Path) -> None:
    _, _, err = cli("assemble", small_sources / "run.yaml", "views.strong={fliip: 1}")
    assert "unknown key 'views.strong.fliip', did you mean 'flip'?" in err
    _, _, err = cli("assemble", small_sources / "run.yaml", "views.strong.flip=3")
    assert "'views.strong.flip': input should be less than or equal to 1, got 3" in err
    _, _, err = cli("assemble", small_sources / "run.yaml", "views={backend: dali, strong: [RandomErasing]}")
    assert "backend must be torch or auto where strong is a list" in err


def test_a_list_goes_round_and_may_be_given_on_the_command_line(small_sources: Path) -> None:
    path = small_sources / "run.yaml"
    config = load_config(
        path, [f"views.weak={WEAK}", "views.strong=[{RandomErasing: {p: 1.0}}, RandomInvert]"]
    )
    assert config.views.strong == ({"RandomErasing": {"p": 1.0}}, {"RandomInvert": {}})
    again = small_sources / "again.yaml"
    again.write_text(config.to_yaml())
    assert load_config(again) == config
    assert yaml.safe_load(again.read_text())["views"]["weak"] == WEAK
    assert choose_backend(config.views, torch.device("cuda")).name == "torch"


def test_a_run_is_read_without_kornia(small_sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_sources / "run.yaml"
    values = yaml.safe_load(path.read_text()) | {"views": {"size": 16, "strong": STRONG}}
    path.write_text(yaml.safe_dump(values))
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)
    with pytest.raises(LabelAssembleError, match=r"kornia cannot be imported .*: pip install 'kornia>=0\.9'"):
        load_config(path)
    run = path.rename(small_sources / "config.yaml")
    (small_sources / "environment.json").write_text("{}")
    assert isinstance(load_config(run), Config)


# --- what seeds it -----------------------------------------------------------------------------------------------


def views_of(paths: list[str], batch_size: int, threads: int = 1, **changed: Any) -> TorchViews:
    given = {"size": 16, "threads": threads, "weak": WEAK, "strong": STRONG, **changed}
    options = ViewOptions.model_validate(given)
    targets = np.zeros((len(paths), 1), np.float32)
    return TorchViews(paths, targets, options, Sampler(len(paths), batch_size=batch_size, seed=5))


def by_row(batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    order = torch.cat([batch.rows for batch in batches]).argsort()
    strong = [batch.strong for batch in batches if batch.strong is not None]
    return torch.cat([batch.weak for batch in batches])[order], torch.cat(strong)[order]


def test_a_view_depends_on_seed_pass_and_row_alone(paths: list[str]) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    weak, strong = by_row(list(views_of(paths, 3).epoch(1, strong=True)))
    assert torch.equal(torch.get_rng_state(), before)  # what a training draws from in the meantime
    torch.rand(3)
    other = list(views_of(paths, 5, threads=3).epoch(1, strong=True))
    assert all(map(torch.equal, by_row(other), (weak, strong)))
    rest = list(views_of(paths, 5).epoch(1, strong=True, first_step=2))
    assert torch.equal(rest[0].weak, other[2].weak)
    assert rest[0].strong is not None
    assert other[2].strong is not None
    assert torch.equal(rest[0].strong, other[2].strong)
    later = by_row(list(views_of(paths, 3).epoch(2, strong=True)))
    assert not torch.equal(later[0], weak)
    assert not torch.equal(later[1], strong)


def test_a_view_that_is_no_list_is_the_built_in_one(paths: list[str]) -> None:
    both = by_row(list(views_of(paths, 4, weak={}, strong={}).epoch(0, strong=True)))
    weak_listed = by_row(list(views_of(paths, 4, weak=[], strong={}).epoch(0, strong=True)))
    strong_listed = by_row(list(views_of(paths, 4, weak={}, strong=[]).epoch(0, strong=True)))
    assert torch.equal(weak_listed[1], both[1])
    assert torch.equal(strong_listed[0], both[0])
    assert torch.equal(weak_listed[0], strong_listed[1])  # the image as it is
    (alone,) = views_of(paths, 11, weak={}).epoch(0, strong=False)
    assert alone.strong is None
    assert torch.equal(alone.weak[alone.rows.argsort()], both[0])


def test_every_class_for_one_image_has_a_seed_of_its_own() -> None:
    """Whatever kornia draws, and wherever, comes from the image's seed: nothing of it from torch's generator."""
    needed = {
        "degrees": 15.0,
        "shear": 5.0,
        "times": [1, 3],
        "kernel_size": 3,
        "angle": 15.0,
        "direction": 0.5,
        "sigma": [0.5, 2.0],
        "max_size": 32,
        "center_x": [-0.3, 0.3],
        "center_y": [-0.3, 0.3],
        "gamma": [0.9, 1.1],
    }
    drawn, still = [], []
    for name, kind in vars(kornia.augmentation).items():
        base = kornia.augmentation.AugmentationBase2D
        if not inspect.isclass(kind) or "Base" in name or not issubclass(kind, base):
            continue
        wants = [key for key, one in inspect.signature(kind).parameters.items() if one.default is one.empty]
        arguments = {key: [32, 32] if key == "size" else needed.get(key) for key in wants if key != "kwargs"}
        if name in ("Normalize", "Denormalize", "RandomDissolving"):  # refused, or in need of another package
            continue
        found = read_list(({name: arguments},), key="x", shape=(3, 32, 32))
        image = torch.rand(3, 32, 32)
        state = torch.get_rng_state()
        views = [found.view(image, seed) for seed in (0, 0, 1, 2, 3, 4)]
        assert torch.equal(state, torch.get_rng_state()), name
        assert torch.equal(views[0], views[1]), name
        assert all(0 <= float(view.min()) <= float(view.max()) <= 1 for view in views), name
        (drawn if any(not torch.equal(view, views[0]) for view in views) else still).append(name)
    assert len(drawn) > 30
    assert {
        "RandomGaussianNoise",
        "RandomPlasmaBrightness",
        "RandomErasing",
        "RandomElasticTransform",
    } <= set(drawn)
    assert {"CenterCrop", "PadTo", "RandomGamma"} <= set(still)  # which change nothing with these arguments


# --- masks -------------------------------------------------------------------------------------------------------


def slices(folder: Path) -> Table:
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 24), dtype=np.uint8)
    mask[4:12, 5:15] = 3
    np.savez(
        folder / "slices.npz",
        a=np.where(mask == 3, 250, rng.integers(0, 60, mask.shape)).astype(np.uint8),
        m=mask,
    )
    return new_table(
        ("lesion",),
        paths=[f"{folder}/slices.npz::a"],
        names=["a"],
        labels=np.ones((1, 1), dtype=np.int8),
        sources="s",
        groups=["p"],
        splits=["train"],
        masks=[f"{folder}/slices.npz::m"],
        mask_values={"s": {3: "lesion"}},
    )


def crops_of(folder: Path, **changed: Any) -> Batch:
    options = VolumeOptions.model_validate(
        {"patch": [16, 16], "crops_per_case": 4, "percentiles": [0, 100], **changed}
    )
    (batch,) = VolumeViews(slices(folder), options, Sampler(1, batch_size=1, seed=3)).epoch(0, strong=True)
    return batch


def test_geometry_of_the_weak_list_moves_image_mask_and_both_views_alike(tmp_path: Path) -> None:
    plain = crops_of(tmp_path, weak=[], strong=[])
    assert plain.strong is not None
    assert torch.equal(plain.weak, plain.strong)
    turn = {"RandomAffine": {"degrees": [80, 100], "resample": "nearest", "p": 1.0}}
    moved = crops_of(tmp_path, weak=[turn, {"RandomInvert": {"p": 1.0}}], strong=[])
    assert moved.strong is not None
    assert not torch.equal(moved.strong, plain.weak)
    torch.testing.assert_close(moved.weak, 1 - moved.strong)  # the values are of the weak view alone
    beyond = torch.isnan(moved.targets)
    assert beyond.any()
    assert not beyond.all()
    assert not torch.isnan(plain.targets).any()
    # The lesion is the only thing that is bright, and what turned in from nowhere is black.
    assert torch.equal((moved.strong > 0.5) & ~beyond, (moved.targets == 1) & ~beyond)
    assert (moved.strong[beyond] == 0).all()


def test_a_moved_crop_keeps_what_was_beyond_the_volume_apart() -> None:
    image, mask = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.uint16)
    image[:4], mask[0, 0] = 0.5, 65535
    crop = Crop(image, mask, (slice(0, 4), slice(0, 8)))
    flip = read_list(({"RandomVerticalFlip": {"p": 1.0}},), key="x", shape=(1, 8, 8))
    moved = moved_crop(crop, flip, 0)
    assert moved.beyond is not None
    assert np.array_equal(moved.beyond, np.arange(8)[:, None].repeat(8, 1) < 4)
    assert np.array_equal(moved.image, image[::-1])
    assert np.array_equal(moved.mask, mask[::-1])
    assert moved.mask.dtype == np.uint16


def test_views_of_volumes_do_not_depend_on_threads(tmp_path: Path) -> None:
    turn = [{"RandomAffine": {"degrees": 30, "p": 0.5}}, {"RandomGaussianNoise": {"std": 0.1}}]
    one, several = (crops_of(tmp_path, weak=turn, strong=STRONG[1:], threads=threads) for threads in (1, 3))
    for ours, theirs in zip(one[1:], several[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert torch.isnan(one.targets).any()


def test_three_axes_take_classes_that_change_values() -> None:
    lists = volume_lists(VolumeOptions.model_validate({"patch": [8, 9, 10], "weak": ["RandomEqualize3D"]}))
    assert lists.geometry is None
    assert lists.strong is None
    assert isinstance(lists.weak, KorniaList)
    assert lists.weak.view(torch.rand(1, 8, 9, 10), 0).shape == (1, 8, 9, 10)
    weak, strong = view_lists(ViewOptions(weak=WeakOptions(), strong=("RandomInvert",), size=16))  # type: ignore[arg-type]
    assert weak is None
    assert strong is not None


# --- commands ----------------------------------------------------------------------------------------------------


def test_a_plot_of_lists(cli: Cli, small_sources: Path) -> None:
    image, output = small_sources / "images" / "north-0.png", small_sources / "views.png"
    how = ("--image", image, "-o", output, "--count", 2)
    status, _, err = cli("views", small_sources / "run.yaml", f"views.strong={STRONG}", *how)
    assert status == 0, err
    assert output.read_bytes().startswith(b"\x89PNG")
