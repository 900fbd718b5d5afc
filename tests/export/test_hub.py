"""A network as a folder for the Hugging Face hub: everything comes back, offline, and what does not fit is refused."""

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from labelassemble.config import load_config
from labelassemble.errors import LabelAssembleError
from labelassemble.export.hub import HubNet
from labelassemble.run import load_trained, train_run
from labelassemble.run.calibration import calibration_in_use

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_small_sources: Callable[[Path], Path]) -> Path:
    folder = write_small_sources(tmp_path_factory.mktemp("hub"))
    config = load_config(
        folder / "run.yaml", ["model.backbone=cnn_small", "views.mean=[0.3]", "train.epochs=1"]
    )
    train_run(config, folder / "run", resume=False, console=Console(quiet=True))
    return folder / "run"


def _net() -> HubNet:
    torch.manual_seed(0)
    return HubNet(
        "cnn_small",
        classes=["Edema", "Mass"],
        image_size=32,
        mean=[0.4],
        interest=["Mass"],
        thresholds={"Edema": "Infinity", "Mass": None},
        temperatures={"Edema": 2.0, "Mass": 1.0},
        offsets={"Edema": 0.5, "Mass": 0.0},
    ).eval()


def test_what_is_saved_is_loaded_with_names_view_thresholds_and_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = _net()
    net.save_pretrained(tmp_path / "net")
    assert sorted(file.name for file in (tmp_path / "net").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    again = HubNet.from_pretrained(tmp_path / "net")
    assert not again.training
    assert again.classes == ("Edema", "Mass")
    assert again.interest == ("Mass",)
    assert again.thresholds == {"Edema": math.inf, "Mass": None}
    images = torch.randint(0, 256, (3, 1, 40, 36), dtype=torch.uint8)
    values = torch.nn.functional.interpolate(images / 255, (32, 32), mode="bilinear", antialias=True)
    with torch.inference_mode():
        logits = net((values - 0.4) / 0.25).double()
        expected = torch.sigmoid(logits / torch.tensor([2.0, 1.0]) + torch.tensor([0.5, 0.0]))
        torch.testing.assert_close(again.probabilities(images), expected, rtol=0, atol=1e-6)
    again.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again/config.json").read_text() == (tmp_path / "net/config.json").read_text()
    assert capsys.readouterr().out == ""


def test_a_run_becomes_such_a_folder_and_answers_as_the_run_does(
    trained: Path, tmp_path: Path, cli: Cli
) -> None:
    status, out, err = cli("export", trained, "--format", "hub", "-o", tmp_path / "net")
    assert status == 0, out + err
    assert "largest difference from eager over" in out
    net = HubNet.from_pretrained(tmp_path / "net")
    run, calibration = load_trained(trained), calibration_in_use(trained)
    assert net.classes == run.net.classes
    assert net.thresholds == calibration.thresholds(net.classes)
    assert json.loads((tmp_path / "net/config.json").read_text())["mean"] == pytest.approx([0.3])
    state = load_file(tmp_path / "net/model.safetensors")
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in run.net.state_dict().items()
    }
    card = tmp_path / "net/README.md"
    assert "Not a medical device" in card.read_text()
    card.write_text("what an earlier export said")
    assert cli("export", trained, "--format", "hub", "-o", tmp_path / "net")[0] == 0
    assert "Not a medical device" in card.read_text()


def test_a_folder_that_differs_from_the_network_is_not_left_there(
    trained: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    assert cli("export", trained, "--format", "hub", "-o", old)[0] == 0
    (old / "notes.txt").write_text("kept")
    before = {file.name: file.read_bytes() for file in old.iterdir()}
    answers = HubNet.probabilities
    monkeypatch.setattr(HubNet, "probabilities", lambda net, images: answers(net, images) + 0.01)
    for folder in (new, old):
        status, out, err = cli("export", trained, "--format", "hub", "-o", folder)
        assert (status, out) == (2, "")
        assert f"{folder}: not written: the export's probabilities may differ" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
    assert {file.name: file.read_bytes() for file in old.iterdir()} == before


@pytest.mark.parametrize("files_moved", [0, 1, 2])
def test_an_end_while_a_folder_is_replaced_leaves_one_that_is_refused(
    trained: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, files_moved: int
) -> None:
    _net().save_pretrained(tmp_path / "net")
    replace, moved = os.replace, list[Path]()

    def ended(source: Path, target: Path) -> None:
        if len(moved) == files_moved:
            raise KeyboardInterrupt
        moved.append(target)
        replace(source, target)

    with monkeypatch.context() as interrupted:
        interrupted.setattr("labelassemble.export.hub.os.replace", ended)
        assert cli("export", trained, "--format", "hub", "-o", tmp_path / "net")[0] != 0
    assert len(moved) == files_moved
    with pytest.raises(LabelAssembleError, match=r"net: has no config\.json"):
        HubNet.from_pretrained(tmp_path / "net")
    assert cli("export", trained, "--format", "hub", "-o", tmp_path / "net")[0] == 0
    assert HubNet.from_pretrained(tmp_path / "net").classes != _net().classes


def test_others_may_read_what_is_saved(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        _net().save_pretrained(tmp_path / "net")
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in (tmp_path / "net").iterdir()} == {"0o644"}


def test_a_folder_on_another_disk_is_written(trained: Path, tmp_path: Path, cli: Cli) -> None:
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other disk")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (tmp_path / "mounted").symlink_to(other)
        status, out, err = cli("export", trained, "--format", "hub", "-o", tmp_path / "mounted")
        assert status == 0, out + err
        assert sorted(os.listdir(other)) == ["README.md", "config.json", "model.safetensors"]


def test_options_of_other_formats_and_of_other_networks_are_refused(trained: Path, cli: Cli) -> None:
    status, _, err = cli("export", trained, "--format", "hub", "--queries")
    assert status == 2
    assert "of the options, --output and --specificity go with --format hub" in err
    with pytest.raises(LabelAssembleError, match=r"thresholds must be given for \['a'\], got \['b'\]"):
        HubNet("cnn_small", classes=["a"], thresholds={"b": 0.5})


def test_folders_that_are_incomplete_damaged_or_of_another_network_are_one_sentence(tmp_path: Path) -> None:
    _net().save_pretrained(tmp_path / "net")
    file = tmp_path / "net/model.safetensors"
    state = load_file(file)
    save_file({key: value for key, value in state.items() if "backbone" in key}, file)
    with pytest.raises(
        LabelAssembleError, match=r"model\.safetensors: does not hold the weights of its config"
    ):
        HubNet.from_pretrained(tmp_path / "net")
    file.write_bytes(b"cut off")
    with pytest.raises(LabelAssembleError, match=r"model\.safetensors: does not hold the weights"):
        HubNet.from_pretrained(tmp_path / "net")
    file.unlink()
    with pytest.raises(LabelAssembleError, match=r"model\.safetensors: does not hold the weights"):
        HubNet.from_pretrained(tmp_path / "net")
    shutil.rmtree(tmp_path / "net")
    (tmp_path / "net").mkdir()
    with pytest.raises(LabelAssembleError, match=r"net: has no config\.json"):
        HubNet.from_pretrained(tmp_path / "net")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_size", "large", "'image_size': input should be a valid integer"),
        ("image_size", -2, "'image_size': input should be greater than or equal to 1, got -2"),
        ("in_channels", 2, "channels must be 1 or 3, got 2"),
        ("mean", [0.1, 0.2], "mean and std must have 1 or 1 values, got 2 and 1"),
        ("std", [0.0], "'std.0': input should be greater than 0, got 0.0"),
        ("temperatures", {"Edema": 0.0, "Mass": 1.0}, "'temperatures.Edema': input should be greater than 0"),
        ("offsets", {"Edema": "x", "Mass": 1.0}, "'offsets.Edema': input should be a valid number"),
        ("thresholds", {"Edema": "NaN", "Mass": None}, "'thresholds.Edema': input should be greater than"),
        ("interest", ["mass"], "interest names 'mass', did you mean 'Mass'?"),
        ("backbone", 3, "input should be keys with values"),
        ("classes", "Edema", "classes must be a list of names, got the text 'Edema'"),
        ("classes", None, "classes must be a list of names, got None"),
    ],
)
def test_settings_that_are_not_allowed_are_one_sentence(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    _net().save_pretrained(tmp_path / "net")
    config = json.loads((tmp_path / "net/config.json").read_text())
    (tmp_path / "net/config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(LabelAssembleError, match=re.escape(message)):
        HubNet.from_pretrained(tmp_path / "net")


def test_what_is_no_folder_of_a_network_is_one_sentence(tmp_path: Path) -> None:
    _net().save_pretrained(tmp_path / "net")
    for place, message in (
        (tmp_path / "nte", "nte: no such folder, and no repository, which is OWNER/NAME"),
        (tmp_path / "net/config.json", "config.json: is a file, not the folder of a network"),
    ):
        with pytest.raises(LabelAssembleError, match=message):
            HubNet.from_pretrained(place)
    for text, message in (
        ("{", "is no JSON"),
        ("[]", "must hold keys with values, got list"),
        ('{"a": "\udc80"}', "is no JSON"),
    ):
        (tmp_path / "net/config.json").write_text(text, errors="surrogatepass")
        with pytest.raises(LabelAssembleError, match=message):
            HubNet.from_pretrained(tmp_path / "net")


def test_weights_whose_classes_stand_in_another_order_are_loaded_by_name(tmp_path: Path) -> None:
    net = _net()
    net.save_pretrained(tmp_path / "net")
    config = json.loads((tmp_path / "net/config.json").read_text())
    config["classes"] = ["Mass", "Edema"]
    (tmp_path / "net/config.json").write_text(json.dumps(config))
    again = HubNet.from_pretrained(tmp_path / "net")
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        np.testing.assert_allclose(
            again.probabilities(images)[:, [1, 0]], net.probabilities(images), atol=1e-6
        )
