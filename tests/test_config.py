from pathlib import Path

import pytest
import yaml

from labelassemble.config import load_config
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError

MINIMAL = "sources: [{name: a, reader: csv, path: a.csv}]\n"


def _load(tmp_path: Path, text: str, *overrides: str) -> object:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def test_the_defaults_are_the_papers(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(MINIMAL)
    config = load_config(tmp_path / "run.yaml")
    assert config.model.backbone == "densenet121"
    assert config.model.head == "class_query"
    assert (config.train.epochs, config.train.batch_size, config.train.lr) == (64, 16, 2e-4)
    assert (config.train.plateau.factor, config.train.plateau.patience, config.train.early_stop) == (
        0.5,
        5,
        10,
    )
    assert (config.loss.threshold, config.loss.temperature, config.loss.warmup_epochs) == (0.5, 4.0, 5)
    assert config.views.size == 224


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(MINIMAL + "model: {pretrained: weights.pth}\n")
    config = load_config(tmp_path / "run.yaml")
    assert Path(config.sources[0].path) == tmp_path / "a.csv"
    assert config.model.pretrained == tmp_path / "weights.pth"


def test_a_file_may_be_named_by_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.yaml").write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load_config("run.yaml", ["train.epochs=3"]) == load_config(Path("run.yaml"), ["train.epochs=3"])


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        MINIMAL + "interest: [Ödem]\nviews: {strong: {erase_area: [0.1, 0.2]}}\n"
    )
    config = load_config(tmp_path / "run.yaml")
    (tmp_path / "again.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(tmp_path / "again.yaml") == config


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(MINIMAL + "train: {lr: 0.5, epochs: 3}\n")
    config = load_config(
        tmp_path / "run.yaml", ["train.lr=1e-4", "views.weak.flip=0", "interest=[x]", "sources.0.name=b"]
    )
    assert (config.train.lr, config.train.epochs) == (1e-4, 3)
    assert config.views.weak.flip == 0
    assert config.interest == ("x",)
    assert config.sources[0].name == "b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "train: {epoch: 3}", r"run\.yaml: unknown key 'train\.epoch', did you mean 'epochs'\?"),
        (MINIMAL + "trian: {}", r"unknown key 'trian', did you mean 'train'\?"),
        (
            MINIMAL + "views: {strong: {rotat: 3}}",
            r"unknown key 'views\.strong\.rotat', did you mean 'rotate'\?",
        ),
        (
            "sources: [{name: a, reader: csv, pth: a.csv}]",
            r"unknown key 'sources\.0\.pth', did you mean 'path'\?",
        ),
        ("sources: [{name: a, reader: csv}]", r"the key 'sources\.0\.path' is missing"),
        ("train: {}", r"the key 'sources' is missing"),
        ("sources: []", r"'sources' must have at least one entry, got none"),
        (
            "sources: [{name: a, reader: cvs, path: a}]",
            r"unknown reader 'cvs' in 'sources\.0', did you mean 'csv'\?",
        ),
        ("sources: [{name: a, path: a}]", r"the key 'sources\.0\.reader' is missing, known readers: .*csv"),
        (
            "sources: [{name: a, redaer: csv, path: a}]",
            r"unknown key 'sources\.0\.redaer', did you mean 'reader'\?",
        ),
        (MINIMAL + "train: {lr: fast}", r"'train\.lr': input should be a valid number.*, got 'fast'"),
        (MINIMAL + "model: {pretrained: false}", r"'model\.pretrained': input should be a path, got False"),
        (MINIMAL + "train: {lr: .inf}", r"'train\.lr': input should be a finite number, got inf"),
        (MINIMAL + "views: {mean: [.nan]}", r"'views\.mean\.0': input should be a finite number, got nan"),
        (MINIMAL + "split: {val: .nan}", r"'split\.val': input should be .*, got nan"),
        (
            MINIMAL + "loss: {dice_weight: .inf}",
            r"'loss\.dice_weight': input should be a finite number, got inf",
        ),
        (
            MINIMAL + "train: {seed: 9223372036854775808}",
            r"'train\.seed': input should be less than 9223",
        ),
        (MINIMAL + "interest: Edema", r"'interest': input should be a list, such as \[a, b\], got 'Edema'"),
        (MINIMAL + "train: [1]", r"'train': input should be keys with values, \{key: value\}"),
        (MINIMAL + "train: {lr: -1}", r"'train\.lr': input should be greater than 0, got -1"),
        (MINIMAL + "views: {size: 4}", r"'views\.size': input should be greater than or equal to 8, got 4"),
        (MINIMAL + "views: {mean: [1, 2]}", r"mean must have 1 or 1 values, got 2"),
        (
            MINIMAL + "model: {head: lienar}",
            r"'model\.head' must be 'class_query', 'linear', .* or 'task_code', got 'lienar', did you mean 'linear'",
        ),
        (MINIMAL + "train: {lr: 1, lr: 2}", r"not valid YAML \(the key 'lr' is given twice"),
        ("sources: [", r"run\.yaml: not valid YAML"),
        ("", r"a configuration is a mapping of keys, got nothing"),
        ("- a", r"a configuration is a mapping of keys, got list"),
        (
            "sources: [{name: a, reader: csv, path: a}, {name: a, reader: csv, path: b}]",
            r"the name 'a' stands for two sources",
        ),
    ],
)
def test_what_is_wrong_is_named_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelAssembleError, match=message) as error:
        _load(tmp_path, text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["labels.csv", "LABELS.CSV", "labels.parquet"])
def test_a_table_of_labels_is_no_configuration(tmp_path, name):
    (tmp_path / name).write_text("path,Nodule\na.png,1\n")
    with pytest.raises(LabelAssembleError, match=r"a YAML file whose `sources` name it is"):
        load_config(tmp_path / name)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr", r"an override must look like train\.lr=1e-4, got 'train\.lr'"),
        ("=3", "an override must look like"),
        ("train.lr.x=3", r"train\.lr has no keys below it"),
        ("sources.7.name=b", "'7' is no position in a list of 1"),
        ("train.lr=[", "is not valid YAML"),
    ],
)
def test_wrong_overrides_are_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(LabelAssembleError, match=message):
        _load(tmp_path, MINIMAL + "train: {lr: 1}\n", override)


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelAssembleError, match=r"absent\.yaml: no such configuration file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(LabelAssembleError, match="cannot be read as a configuration"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("classes: [Ödem]".encode("latin-1"))
    with pytest.raises(LabelAssembleError, match=r"latin\.yaml: cannot be read as a configuration"):
        load_config(tmp_path / "latin.yaml")


def test_how_a_detection_is_evaluated_goes_with_volumes(tmp_path: Path) -> None:
    assert _load(tmp_path, MINIMAL).detection is None
    assert _load(tmp_path, MINIMAL + "volumes: {}\n").detection == DetectionOptions()
    found = _load(tmp_path, MINIMAL + "volumes: {}\n", "detection.hit=any").detection
    assert found == DetectionOptions(hit="any")
    with pytest.raises(
        LabelAssembleError, match="'detection' goes with 'volumes', which the configuration lacks"
    ):
        _load(tmp_path, MINIMAL + "detection: {}\n")


def test_the_demos_configuration_is_valid() -> None:
    from importlib.resources import files

    text = files("labelassemble.experiments").joinpath("demo.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["interest"] == ["eight"]
