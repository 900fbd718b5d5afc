"""Presets: what the keys mean that a configuration leaves out."""

from pathlib import Path

import pytest

from labelassemble.config import PRESETS, Config, load_config, make_config
from labelassemble.errors import LabelAssembleError
from labelassemble.loss import LossOptions
from labelassemble.training.options import TrainOptions

SOURCES = [{"name": "s", "reader": "csv", "path": "s.csv"}]


def test_paper_is_the_options_own_defaults() -> None:
    config = make_config({"sources": SOURCES, "preset": "paper"}, base=Path("/"))
    assert config.loss == LossOptions()
    assert config.train == TrainOptions()
    assert (config.train.epochs, config.train.lr, config.train.plateau.patience, config.train.early_stop) == (
        *(64, 2e-4, 5, 10),
    )
    assert (config.loss.threshold, config.loss.temperature) == (0.5, 4.0)


def test_recommended_is_the_default_and_changes_only_what_it_names() -> None:
    config = make_config({"sources": SOURCES}, base=Path("/"))
    assert config.preset == "recommended"
    assert config == make_config({"sources": SOURCES, "preset": "recommended"}, base=Path("/"))
    paper = make_config({"sources": SOURCES, "preset": "paper"}, base=Path("/"))
    for section, keys in PRESETS["recommended"].items():
        own, other = (getattr(each, section).model_dump() for each in (config, paper))
        assert {key for key in own if own[key] != other[key]} == set(keys)
        assert {key: own[key] for key in keys} == keys
    rest = set(Config.model_fields) - {"preset", *PRESETS["recommended"]}
    assert all(getattr(config, key) == getattr(paper, key) for key in rest)


def test_a_key_that_is_given_wins_over_the_preset(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "sources: [{name: s, reader: csv, path: s.csv}]\nloss: {strong_known: false}\n", encoding="utf-8"
    )
    config = load_config(tmp_path / "c.yaml", ["train.query_lr=1.0"])
    assert not config.loss.strong_known
    assert config.loss.exclusive
    assert config.train.query_lr == 1.0
    models = Config(sources=config.sources, loss=LossOptions(exclusive=False), train=TrainOptions(lr=0.1))
    assert (models.loss.exclusive, models.loss.strong_known) == (False, True)
    assert (models.train.lr, models.train.query_lr) == (0.1, 0.1)


def test_what_is_written_is_read_back_the_same(tmp_path: Path) -> None:
    for preset in PRESETS:
        config = make_config({"sources": SOURCES, "preset": preset}, base=tmp_path)
        (tmp_path / "again.yaml").write_text(config.to_yaml(), encoding="utf-8")
        assert load_config(tmp_path / "again.yaml") == config


def test_a_runs_folder_of_before_presets_keeps_its_meaning(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "sources: [{name: s, reader: csv, path: s.csv}]\n", encoding="utf-8"
    )
    assert load_config(tmp_path / "config.yaml").preset == "recommended"
    (tmp_path / "environment.json").write_text("{}")
    assert load_config(tmp_path / "config.yaml").preset == "paper"


def test_an_unknown_preset_is_one_sentence() -> None:
    with pytest.raises(
        LabelAssembleError,
        match="'preset' must be 'recommended' or 'paper', got 'papr', did you mean 'paper'",
    ):
        make_config({"sources": SOURCES, "preset": "papr"}, base=Path("/"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "balance",
            "'train.sampling': must be auto, shuffle, balanced, or shares by source such as {clinic: 0.5}, got",
        ),
        ({}, "must be auto, shuffle, balanced, or shares"),
        ({"s": 1.5}, "'train.sampling': the share of 's' must be above 0 and at most 1, got 1.5"),
        ({"s": 0}, "the share of 's' must be above 0 and at most 1, got 0"),
        ({"s": "half"}, "the share of 's' must be above 0 and at most 1, got 'half'"),
        ({"s": 0.6, "t": 0.6}, "the shares must add up to 1 at most, got 1.2"),
    ],
)
def test_wrong_sampling_is_one_sentence(value: object, message: str) -> None:
    with pytest.raises(LabelAssembleError) as caught:
        make_config({"sources": SOURCES, "train": {"sampling": value}}, base=Path("/"))
    assert message in str(caught.value)
