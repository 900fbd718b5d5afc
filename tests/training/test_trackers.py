"""What trackers are told of a training: the columns of metrics.csv under the same names in each of them."""

import json
import logging
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from labelassemble.errors import LabelAssembleError
from labelassemble.training.options import TrainOptions
from labelassemble.training.trackers import Trackers, epoch_values, mlflow_name, without_data

sys.path.insert(0, str(Path(__file__).parent))
from epoch_rows import ROW

CLASSES = ["Edema (old)", "Nodule"]
STEP = [0.5, 0.4, 0.06, 0.04]
SETTINGS = {"train": {"lr": 1e-3}, "views": {"strong": [{"RandomErasing": {}}]}}


def track(run: Path, name: str, *, done: int = 0) -> None:
    run.mkdir(exist_ok=True)
    with Trackers(run, CLASSES, [name], settings=SETTINGS, done=done) as trackers:
        trackers.step(done + 1, STEP)
        trackers.epoch(ROW)


def test_names_are_those_of_the_columns() -> None:
    values = epoch_values(ROW, CLASSES)
    assert values["epoch/val_loss"] == 0.5
    assert values["val_auc/Edema (old)"] == 0.8
    assert values["pseudo_positive/Nodule"] == 0.25
    assert "val_auc/Nodule" not in values
    assert "epoch/val_auc_interest" not in values
    assert mlflow_name("val_auc/Edema (old)") == "val_auc/Edema _28_old_29_"


def test_names_that_mlflow_takes_stay_apart() -> None:
    validation = pytest.importorskip("mlflow.utils.validation")
    classes = [
        "Edema (old)",
        "Edema [old]",
        "Ödem",
        "a:b",
        "a//b",
        "/a",
        "..",
        ".",
        "a/../b",
        "<5 mm",
        "R&D",
        "50%",
    ]
    made = [mlflow_name(f"val_auc/{name}") for name in classes]
    assert len(set(made)) == len(classes)
    for name in made:
        validation._validate_metric_name(name)
    with pytest.raises(Exception, match="Invalid value"):
        validation._validate_metric_name("val_auc/a//b")


def test_settings_say_nothing_of_where_data_lie(tmp_path: Path) -> None:
    settings = {
        "sources": [{"name": "st-mary", "path": str(tmp_path / "st-mary.csv")}, {"name": "north/east"}],
        "taxonomy": str(tmp_path / "someone" / "thorax.yaml"),
        "model": {"backbone": {"library": "timm", "pretrained": str(tmp_path / "secret" / "weights.pt")}},
        "views": {"strong": [{"RandomErasing": {"p": 0.5}}]},
        "train": {
            "lr": 1e-3,
            "sampling": {"st-mary": 0.25, "north/east": 0.25, "st-mary/a": 0.25, "st-mary/b": 0.25},
        },
    }
    shown = without_data(settings)
    assert shown["taxonomy"] == "thorax.yaml"
    assert shown["model"]["backbone"] == {"library": "timm", "pretrained": "weights.pt"}
    assert shown["views"] == settings["views"]
    assert list(shown["train"]["sampling"]) == [
        "source 1",
        "source 2",
        "source 1, part 1",
        "source 1, part 2",
    ]
    assert not any(word in json.dumps(shown) for word in ("mary", "north", "secret", "someone"))
    assert without_data({"sources": [], "train": {"sampling": "balanced"}}) == {
        "train": {"sampling": "balanced"}
    }


def test_tensorboard_has_epochs_and_steps(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    track(tmp_path, "tensorboard")
    found = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    steps = {f"step/{term}" for term in ("total", "bce", "pseudo", "consistency")}
    assert set(found.Tags()["scalars"]) == steps | set(epoch_values(ROW, CLASSES))
    (event,) = found.Scalars("epoch/train_bce")
    assert (event.step, event.value) == (3, 0.125)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, by MLflow
def test_mlflow_has_one_run_that_a_resumed_training_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "first"
    track(run, "mlflow")
    track(run, "mlflow", done=3)
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{run}/mlflow.db")
    experiment = client.get_experiment_by_name("labelassemble")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("first", "FINISHED")
    assert found.data.params == {"train.lr": "0.001", "views.strong": "[{'RandomErasing': {}}]"}
    assert found.data.metrics["val_auc/Edema _28_old_29_"] == 0.8
    assert found.data.metrics["epoch/train_bce"] == 0.125
    history = client.get_metric_history(found.info.run_id, "step/total")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (4, 0.5)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, by MLflow
def test_a_run_of_mlflow_whose_last_values_are_refused_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("a value is refused")

    with Trackers(tmp_path, CLASSES, ["mlflow"]) as trackers:
        trackers.step(1, STEP)
        monkeypatch.setattr(tracking.MlflowClient, "log_batch", refuse)
    assert "mlflow fails and is left out from here on (a value is refused)" in caplog.text
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    name = json.loads((tmp_path / "trackers.json").read_text())["mlflow"]
    assert client.get_run(name).info.status == "FINISHED"


def records_of(data: bytes) -> Iterator[bytes]:
    """Yield the records of a file of Weights & Biases: LevelDB's log format after seven bytes."""
    place, begun = 7, b""
    while place < len(data):
        if 32768 - place % 32768 < 7:  # no header fits into the rest of a block
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        begun += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield begun
            begun = b""


def test_wandb_is_offline_in_the_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    internal = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = tmp_path / "first"
    track(run, "wandb")
    wandb.teardown()  # until its own process has written all
    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    assert not list(file.parent.rglob("wandb-metadata.json"))  # the command line, folders, the machine
    assert str(tmp_path).encode() not in file.read_bytes()
    values, named = {}, ""
    for data in records_of(file.read_bytes()):
        record = internal.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            named = record.run.display_name
            assert record.run.run_id == json.loads((run / "trackers.json").read_text())["wandb"]
        for item in record.history.item:
            key = item.key or ".".join(item.nested_key)
            values[key] = json.loads(item.value_json)
    assert named == "first"
    assert values["val_auc/Edema (old)"] == 0.8
    assert values["epoch/train_bce"] == 0.125
    assert values["step/total"] == 0.5


@pytest.mark.parametrize(
    ("name", "module"),
    [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow.entities"), ("wandb", "wandb")],
)
def test_a_missing_package_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    sentence = rf"train\.trackers names {name}, .* missing .*: pip install 'labelassemble\[{name}\]'"
    with pytest.raises(LabelAssembleError, match=sentence):
        Trackers(tmp_path, CLASSES, [name])


class Recording:
    """A tracker that keeps what it is told; `fails` names the method that raises."""

    made: ClassVar[dict[str, "Recording"]] = {}

    def __init__(self, name: str, fails: str = "") -> None:
        self.fails = fails
        self.calls = list[str]()
        self.closed = list[type[BaseException] | None]()
        self.made[name] = self

    def _call(self, method: str) -> None:
        self.calls.append(method)
        if method == self.fails:
            raise OSError("no route to the server")

    def write(self, *_: object) -> None:
        self._call("write")

    def flush(self) -> None:
        self._call("flush")

    def close(self, error: type[BaseException] | None) -> None:
        self.closed.append(error)
        self._call("close")


@pytest.mark.parametrize("fails", ["write", "flush", "close"])
def test_a_tracker_that_fails_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    kinds = {
        "mlflow": lambda *_: Recording("mlflow", fails),
        "wandb": lambda *_: Recording("wandb"),
    }
    monkeypatch.setattr("labelassemble.training.trackers._KINDS", kinds)
    with caplog.at_level(logging.WARNING), Trackers(tmp_path, CLASSES, ["mlflow", "wandb"]) as trackers:
        trackers.step(1, STEP)
        trackers.step(2, STEP)
        trackers.epoch(ROW)
        trackers.epoch(ROW)
        failing, other = Recording.made["mlflow"], Recording.made["wandb"]
        assert failing.closed == []  # not while training waits
    assert [record.getMessage() for record in caplog.records] == [
        "train.trackers: mlflow fails and is left out from here on (no route to the server)"
    ]
    assert failing.closed == [None if fails == "close" else OSError]  # its run is ended, once
    assert failing.calls.count(fails) == 1
    assert other.closed == [None]
    assert other.calls.count("write") == 4
    assert not list(tmp_path.iterdir())


def test_trackers_that_began_are_ended_where_another_cannot_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, raised in ((RuntimeError, LabelAssembleError), (KeyboardInterrupt, KeyboardInterrupt)):

        def refusing(*_: object, error: type[BaseException] = error) -> None:
            raise error("no such server")

        kinds = {"tensorboard": lambda *_: Recording("tensorboard"), "mlflow": refusing}
        monkeypatch.setattr("labelassemble.training.trackers._KINDS", kinds)
        with pytest.raises(raised, match="no such server"):
            Trackers(tmp_path, CLASSES, ["tensorboard", "mlflow"])
        assert Recording.made["tensorboard"].closed == [raised]


def test_a_run_of_mlflow_that_cannot_begin_or_fails_is_not_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("a value is refused")

    def states() -> set[str]:
        number = client.get_experiment_by_name("labelassemble").experiment_id
        return {run.info.status for run in client.search_runs([number])}

    with Trackers(tmp_path, CLASSES, ["mlflow"], settings={"seed": 0}) as trackers:
        trackers.step(1, STEP)
        assert states() == {"RUNNING"}
        with monkeypatch.context() as broken:
            broken.setattr(tracking.MlflowClient, "log_batch", refuse)
            trackers.epoch(ROW)
    assert states() == {"KILLED"}
    monkeypatch.setattr(tracking.MlflowClient, "log_batch", refuse)
    with pytest.raises(LabelAssembleError, match="mlflow cannot begin"):
        Trackers(tmp_path, CLASSES, ["mlflow"], settings={"seed": 0})
    assert states() == {"KILLED", "FAILED"}


def test_a_tracker_that_cannot_begin_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object) -> None:
        raise RuntimeError("no such server\nand much more")

    monkeypatch.setattr("labelassemble.training.trackers._KINDS", {"wandb": refusing})
    with pytest.raises(LabelAssembleError, match=r"train\.trackers: wandb cannot begin \(no such server\)$"):
        Trackers(tmp_path, CLASSES, ["wandb"])


def test_the_key_of_earlier_versions_is_read() -> None:
    assert TrainOptions.model_validate({"tensorboard": True}).trackers == ("tensorboard",)
    assert TrainOptions.model_validate({"tensorboard": False}) == TrainOptions()
    dumped = TrainOptions(trackers=("mlflow", "wandb")).model_dump(mode="json")
    assert TrainOptions.model_validate(yaml.safe_load(yaml.safe_dump(dumped))).trackers == ("mlflow", "wandb")
    with pytest.raises(ValueError, match="tensorboard must be true or false, got 'yes'"):
        TrainOptions.model_validate({"tensorboard": "yes"})
    for wrong in (None, 3, "mlflow"):
        with pytest.raises(
            ValueError, match=r"(?s)1 validation error .*trackers\n  Input should be a valid tuple"
        ):
            TrainOptions.model_validate({"tensorboard": True, "trackers": wrong})
    with pytest.raises(ValueError, match="trackers must name each once, got mlflow, mlflow"):
        TrainOptions(trackers=("mlflow", "mlflow"))
