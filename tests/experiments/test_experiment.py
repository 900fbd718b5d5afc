"""Experiment files: what is wrong is one sentence, and every shipped file is right."""

import shlex
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest

from labelassemble.config import Config
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.experiment import (
    SHIPPED,
    Arm,
    Experiment,
    Setting,
    load_experiment,
    make_experiment,
    merged,
)


def _config(experiment: Experiment, *changes: Setting | Arm) -> Config:
    values = experiment.config_values(*changes)
    return Config.model_validate(values | {"sources": [{"name": "any", "reader": "csv", "path": "any"}]})


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_experiments_are_right(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.seeds >= 5
    assert experiment.comparisons


@pytest.mark.parametrize("name", ["figure-1a", "figure-1c", "table-1", "covid-few-labels"])
def test_the_papers_setting_in_a_files_head_is_the_papers(name: str) -> None:
    text = files("labelassemble.experiments").joinpath(f"{name}.yaml").read_text()
    start = text.index("labelassemble experiment", text.index("# The paper's setting"))
    command = shlex.split(text[start : text.index("\ntitle:", start)].replace("\\\n#", " "), comments=True)
    experiment = load_experiment(name, [word for word in command if "=" in word])
    only = {after for word, after in pairwise(command) if word == "--only"}
    for setting in (s for s in experiment.settings if not only or s.name in only):
        config = _config(experiment, setting)
        train = config.train
        assert config.model.backbone == "densenet121"
        assert (train.epochs, train.steps_per_epoch, train.batch_size, train.lr) == (64, None, 16, 2e-4), (
            setting.name
        )
        assert config.views.size == 224, setting.name


def test_a_setting_keeps_what_is_not_overridden_and_what_is_given_for_it() -> None:
    usual = load_experiment("figure-1a")
    number = next(i for i, setting in enumerate(usual.settings) if setting.name == "cifar10-cat")
    changed = load_experiment(
        "figure-1a", ["views.weak.flip=0.25", "train.epochs=64", f"settings.{number}.train.epochs=3"]
    )
    before, after = usual.settings[number], changed.settings[number]
    assert before.views == {"size": 32, "channels": 3, "weak": {"flip": 0.5}}
    assert after.views == {"size": 32, "channels": 3, "weak": {}}
    assert _config(changed, after).views.weak.flip == 0.25
    assert after.train == before.train | {"epochs": 3}
    arm = load_experiment("pseudo-labels", ["loss.pseudo_weight=0.5"]).arm("masked-bce")
    assert arm.loss["pseudo_weight"] == 0.0


def test_table_1_and_the_ablations_are_what_they_say() -> None:
    table = load_experiment(
        "table-1", ["model.backbone=densenet121", "train.ema=null", "loss.warmup_epochs=5"]
    )
    config = _config(table)
    assert (config.model.backbone, config.train.ema, config.loss.warmup_epochs) == ("densenet121", None, 5)
    first, second = (set(part.labels) for part in table.parts)
    assert (len(first), len(second), len(first & second)) == (7, 7, 3)
    assert first | second == set(table.settings[0].classes or ())
    assert {comparison.arms[1] for comparison in table.comparisons} == {"full-labels", "masked-bce"}
    ablations = load_experiment("ablations")
    against = {comparison.arms[0] for comparison in ablations.comparisons}
    assert against == {arm.name for arm in ablations.arms} - {"as-published"}
    losses = [_config(ablations, arm).loss for arm in ablations.arms]
    assert {loss.temperature for loss in losses} == {1.0, 2.0, 4.0, float("inf")}


def test_an_experiment_that_is_not_there() -> None:
    with pytest.raises(
        LabelAssembleError, match="no experiment is called 'figure-1b', did you mean 'figure-1"
    ):
        load_experiment("figure-1b")
    with pytest.raises(LabelAssembleError, match=r"mine\.yaml: no such configuration file"):
        load_experiment("mine.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "unknown key 'seed', did you mean 'seeds'"),
        ({"views": {"sise": 3}}, "unknown key 'views.sise', did you mean 'size'"),
        ({"seeds": 0}, "'seeds': input should be greater than or equal to 1, got 0"),
        ({"arms": []}, "'arms' must have at least one entry, got none"),
        ({"arms": [{"name": "a", "clases": "all"}]}, "unknown key 'arms.0.clases', did you mean 'classes'"),
        (
            {"arms": [{"name": "a", "loss": {"temprature": 1}}]},
            "arm 'a': unknown key 'loss.temprature', did you mean 'temperature'",
        ),
        ({"arms": [{"name": "a", "sources": {"exclusiv": "all"}}]}, "unknown key 'sources.0.exclusiv'"),
        (
            {
                "settings": [
                    {"name": "a", "data": "shapes", "sizes": [3], "interest": "x", "train": {"lr": 0}}
                ]
            },
            "setting 'a': 'train.lr': input should be greater than 0",
        ),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "the name 'a' stands twice in 'arms'"),
        ({"arms": [{"name": "a", "parts": ["imges"]}]}, "names no part: 'imges', did you mean 'images'"),
        ({"comparisons": [{"arms": ["binary", "multi"]}]}, "a comparison names no arm: 'multi'"),
        (
            {"settings": [{"name": "a", "data": "shape", "interest": "x", "sizes": [3]}]},
            "setting 'a' names no dataset: 'shape', did you mean 'shapes'",
        ),
        (
            {"parts": [{"name": "a", "sources": ["shape"]}]},
            "part 'a' names no source of a dataset: 'shape', did you mean 'shapes'",
        ),
        (
            {"parts": [{"name": "a", "sources": []}]},
            "'parts.0.sources' must have at least one entry, got none",
        ),
        (
            {"arms": [{"name": "a", "transform": "middle"}]},
            "'arms.0.transform': input should be 'border' or 'thumbnail'",
        ),
        ({"title": None}, "'title': input should be a valid string, got None"),
    ],
)
def test_mistakes(tiny: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelAssembleError) as raised:
        make_experiment(tiny | change)
    assert message in str(raised.value)


def test_a_missing_key(tiny: dict[str, Any]) -> None:
    del tiny["paper"]
    with pytest.raises(LabelAssembleError, match="the key 'paper' is missing"):
        make_experiment(tiny)


def test_changes_are_of_single_keys() -> None:
    values = {"train": {"plateau": {"patience": 3}, "epochs": 7}, "preset": "paper"}
    changed = merged(values, {"train": {"plateau": {"factor": 0.1}, "lr": 1.0}, "preset": "recommended"})
    assert changed == {
        "train": {"plateau": {"patience": 3, "factor": 0.1}, "epochs": 7, "lr": 1.0},
        "preset": "recommended",
    }
    assert values["train"] == {"plateau": {"patience": 3}, "epochs": 7}


def test_an_arm_may_have_another_preset_than_the_papers(tiny: dict[str, Any]) -> None:
    tiny["arms"] = [
        {"name": "paper"},
        {"name": "ours", "preset": "recommended", "sources": {"exclusive": "all"}},
    ]
    experiment = make_experiment(tiny | {"comparisons": []})
    rates = [_config(experiment, arm).train.query_lr for arm in experiment.arms]
    assert rates == [1.0, 0.1]


def test_a_part_may_name_a_source_within_a_file(tiny: dict[str, Any]) -> None:
    tiny["parts"][0]["sources"] = [
        "shapes/drawn",
        "elsewhere",
        "covidx",
    ]  # the last is of a dataset that is shipped
    assert make_experiment(tiny).parts[0].sources == ("shapes/drawn", "elsewhere", "covidx")


def test_few_covid_labels_come_from_clinics_and_archives_know_nothing_of_it() -> None:
    experiment = load_experiment("covid-few-labels")
    assert [setting.sizes for setting in experiment.settings] == [(50, 100, 200)] * 2
    assumed = {
        source.name for options in experiment.datasets.values() for source in options.sources if source.assume
    }
    clinic, archives = experiment.parts
    assert set(archives.sources or ()) == assumed == {"nih", "kermany"}
    assert not assumed & set(clinic.sources or ())
    assert {arm.transform for arm in experiment.arms} == {None, "border", "thumbnail"}
    assert _config(experiment).train.sampling == "balanced"
