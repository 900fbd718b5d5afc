"""Reading an experiment's file, and what must hold between its parts."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labelassemble.config import apply_override, read_mapping, validation_sentence
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.experiments.settings import Experiment, NetOptions, overlaid
from labelassemble.loss import LossOptions
from labelassemble.training.options import TrainOptions
from labelassemble.views.options import ViewOptions

SHIPPED = ("figure-1a", "figure-1c", "table-1", "covid-few-labels", "ablations", "pseudo-labels")
_OF_SETTINGS = ("views", "train")  # what a setting may say otherwise than its experiment


def load_experiment(name: str, overrides: Sequence[str] = ()) -> Experiment:
    """Return a shipped experiment by its name, or the one in a YAML file.

    Args:
        name: one of `SHIPPED`, or a path that ends in .yaml or .yml.
        overrides: ``key.key=value`` each; they win over the file, and over what its settings say of the same key. What
            an arm says stays: it is what the experiment compares.

    Raises:
        LabelAssembleError: no such experiment, or a key that is unknown, missing or wrong, in one sentence.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in SHIPPED:
        path = Path(str(files("labelassemble.experiments").joinpath(f"{name}.yaml")))
    else:
        raise LabelAssembleError(
            f"no experiment is called '{name}'{did_you_mean(name, SHIPPED)} (or give a YAML file)"
        )
    values = read_mapping(path)
    for override in overrides:
        _forget_in_settings(values, override.partition("=")[0])
    for override in overrides:
        apply_override(values, override)
    return make_experiment(values, where=name)


def _forget_in_settings(values: dict[str, Any], dotted: str) -> None:
    """Take a key of the whole experiment, such as views.size, out of the settings that say it for themselves."""
    *sections, key = dotted.split(".")
    settings = values.get("settings")
    if (sections or [key])[0] not in _OF_SETTINGS or not isinstance(settings, list):
        return
    for place in settings:
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(key, None)


def make_experiment(values: dict[str, Any], *, where: str = "experiment") -> Experiment:
    """Return the validated experiment of plain values.

    Raises:
        LabelAssembleError: the first thing that is wrong, in one sentence.
    """
    try:
        experiment = Experiment.model_validate(values)
        for setting in experiment.settings:  # what differs from the experiment's must be right as well
            overlaid(experiment.views, setting.views)
            overlaid(experiment.train, setting.train)
        for arm in experiment.arms:
            overlaid(experiment.model, arm.model)
            overlaid(experiment.loss, arm.loss)
            overlaid(experiment.train, arm.train)
    except ValidationError as error:
        # An overlay's error is of the options that it changes.
        sentence = validation_sentence(error, Experiment, ViewOptions, NetOptions, LossOptions, TrainOptions)
        raise LabelAssembleError(f"{where}: {sentence}") from None
    _check_names(experiment, where)
    _check_metric(experiment, where)
    _check_criterion(experiment, where)
    return experiment


def _check_names(experiment: Experiment, where: str) -> None:
    parts = [part.name for part in experiment.parts]
    arms = [arm.name for arm in experiment.arms]
    for what, names in (
        ("parts", parts),
        ("arms", arms),
        ("settings", [setting.name for setting in experiment.settings]),
    ):
        for name in names:
            if names.count(name) > 1:
                raise LabelAssembleError(f"{where}: the name '{name}' stands twice in '{what}'")
    for setting in experiment.settings:
        if setting.data not in experiment.datasets:
            near = did_you_mean(setting.data, experiment.datasets)
            raise LabelAssembleError(
                f"{where}: setting '{setting.name}' names no dataset: '{setting.data}'{near}"
            )
    for arm in experiment.arms:
        for name in arm.parts or ():
            if name not in parts:
                raise LabelAssembleError(
                    f"{where}: arm '{arm.name}' names no part: '{name}'{did_you_mean(name, parts)}"
                )
    if experiment.reference is not None and experiment.reference not in arms:
        raise LabelAssembleError(
            f"{where}: reference names no arm: '{experiment.reference}'{did_you_mean(experiment.reference, arms)}"
        )
    _check_sources(experiment, where)
    for comparison in experiment.comparisons:
        for name in comparison.arms:
            if name not in arms:
                raise LabelAssembleError(
                    f"{where}: a comparison names no arm: '{name}'{did_you_mean(name, arms)}"
                )


def _check_criterion(experiment: Experiment, where: str) -> None:
    for arm in (arm for arm in experiment.arms if arm.criterion == "released"):
        trains = [overlaid(overlaid(experiment.train, s.train), arm.train) for s in experiment.settings]
        parts = max(train.accumulate for train in trains)
        if parts > 1:
            raise LabelAssembleError(
                f"{where}: arm '{arm.name}': the released loss does not add up over parts of a batch, "
                f"train.accumulate must be 1, got {parts}"
            )


def _check_metric(experiment: Experiment, where: str) -> None:
    """Raise unless there is a class of interest exactly where the metric is of one."""
    for setting in experiment.settings:
        if experiment.metric == "auc" and setting.interest is None:
            raise LabelAssembleError(
                f"{where}: setting '{setting.name}' must name its class of interest for the metric auc"
            )
        if experiment.metric == "mean_auc" and (setting.interest is not None or setting.others is not None):
            raise LabelAssembleError(
                f"{where}: setting '{setting.name}' must leave out interest and others: the metric mean_auc is over "
                "all classes"
            )
    if experiment.metric == "auc":
        return
    for part in experiment.parts:
        if part.labels in ("interest", "others", "other") or part.positives is not None:
            raise LabelAssembleError(
                f"{where}: part '{part.name}' speaks of a class of interest, and the metric mean_auc has none"
            )
    for arm in experiment.arms:
        if arm.classes != "all":
            raise LabelAssembleError(
                f"{where}: arm '{arm.name}' must have all classes for the metric mean_auc, got {arm.classes}"
            )


def _check_sources(experiment: Experiment, where: str) -> None:
    places = list(dict.fromkeys(p.name for dataset in experiment.datasets.values() for p in dataset.places))
    for part in experiment.parts:
        for name in part.sources or ():
            # A file with a column of sources calls them "place/cell".
            if name not in places and name.split("/")[0] not in places:
                raise LabelAssembleError(
                    f"{where}: part '{part.name}' names no source of a dataset: '{name}'{did_you_mean(name, places)}"
                )
