"""An experiment's file: data, how labels are split, arms that change a configuration, sizes, seeds, and the tests."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labelassemble._validation import validation_sentence
from labelassemble._yaml import apply_override, read_mapping
from labelassemble.config import make_config
from labelassemble.data import Source
from labelassemble.errors import LabelAssembleError, did_you_mean

SHIPPED = (
    *("figure-1a", "figure-1c", "table-1", "covid-few-labels", "ablations", "pseudo-labels"),
    *("few-positives", "few-positives-nih", "figure-1c-converged", "table-1-skin", "covid-assumed"),
    "detection",
)
SECTIONS = ("preset", "taxonomy", "views", "volumes", "model", "loss", "train")
"""The parts of a configuration that an experiment, a setting and an arm may say, each over the one before."""

Test = Literal["two-sample-t", "welch-t", "paired-t"]
Transform = Literal["border", "thumbnail"]
Baseline = Literal["border", "histogram", "thumbnail"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Sections(_Options):
    """What is said of the configuration; see `labelassemble.config.Config`."""

    preset: str | None = None
    taxonomy: str | None = None
    views: dict[str, Any] = {}
    volumes: dict[str, Any] | None = None
    model: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    train: dict[str, Any] = {}


class DatasetOptions(_Options):
    """Where images come from.

    A label that is assumed (a source's `assume`) is one that the dataset does not give: test images are held against
    it, and it is neither trained on nor chosen by.

    Attributes:
        sources: as a training configuration names them, paths relative to the data folder; the first that is at hand
            is taken.
        together: take all of them as one dataset. Of sources with the same name the first that is at hand is taken, and
            every name must have one.
        download: what to do when none is, a sentence.
        shown: how tables call it; default: its key.
        validation: at most so many validation images, chosen once for all seeds; None for all. With `volumes`, so many
            patients of each fold's training, a fifth by default.
        test: at most so many test images, likewise; not with `volumes`.
        per_patient: with `volumes`, at most so many cases of a patient, evenly spread; None for all.
    """

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    download: str
    shown: str | None = None
    together: bool = False
    validation: Annotated[int, Field(ge=1)] | None = None
    test: Annotated[int, Field(ge=1)] | None = None
    per_patient: Annotated[int, Field(ge=1)] | None = None


class Part(_Options):
    """Training images that one source of a job labels; with `volumes`, patients, of whom it draws the classes.

    Attributes:
        name: what arms call it.
        images: how many; a share of all training images, below 1; "size" for the size in hand; "all" for what the
            others leave.
        positives: how many of them show the class of interest; "size" for the size in hand, None as they come.
        times: with `positives: size` and `images: size`, images are this many times the size.
        labels: the classes that it labels: "interest", "others" (all the others), "others-a" and "others-b" (every
            second of them, from the first or from the second on), "all", "other" (the one that is assembled in this
            job), or names.
        sources: the sources of the dataset that its images come from, by name; of names that the dataset lacks nothing
            is taken, but it must have one of them. None for all.
    """

    name: Name
    images: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | Literal["size", "all"] = (
        "size"
    )
    positives: Annotated[int, Field(ge=1)] | Literal["size"] | None = None
    times: Annotated[int, Field(ge=1)] = 1
    labels: Literal["interest", "others", "others-a", "others-b", "all", "other"] | tuple[str, ...] = "all"
    sources: Annotated[tuple[str, ...], Field(min_length=1)] | None = None


class Arm(_Sections):
    """One of the ways to train that are compared.

    Attributes:
        name: in file names and tables.
        title: in figures; default: the name.
        parts: the parts that it trains on; default: all.
        classes: the outputs of its network: "interest" alone, "all", "others" (all but that one), "pair" (interest and
            the one that is assembled), or names.
        labels: what its images are labelled with: by what their parts label ("parts"), or by everything that the
            dataset knows of them ("all"); with `volumes` also by what their parts draw, and all else as absent
            ("background").
        sources: options that all its sources have, such as {exclusive: all}.
        criterion: the loss: the paper's, or "released", that of the authors' released code (`released_loss`).
        transform: what becomes of every image: a "border" of an eighth of the side, the rest black; or a "thumbnail" of
            8x8 pixels, enlarged again. What these reach is no reading of the image. None leaves it whole.
        baseline: with `volumes`, no network but a logistic regression of each patient's classes, with `labels: all`, on
            so little of the images that nothing is detected by it (`baselines`).
    """

    name: Name
    title: str | None = None
    parts: tuple[str, ...] | None = None
    classes: Literal["interest", "all", "others", "pair"] | tuple[str, ...] = "all"
    labels: Literal["parts", "all", "background"] = "parts"
    sources: dict[str, Any] = {}
    criterion: Literal["paper", "released"] = "paper"
    transform: Transform | None = None
    baseline: Baseline | None = None


class Setting(_Sections):
    """One dataset, with its class of interest where there is one.

    Attributes:
        name: in file names and tables.
        data: key of the dataset.
        interest: the class of interest, whose AUC is measured; None measures the mean AUC over the classes.
        others: classes that are assembled one at a time: names, or "each" of the rest; None for none.
        classes: the classes of the dataset that take part; default: all.
        sizes: training sizes; one with `volumes`.
        arms: those that it compares; default: all.
    """

    name: Name
    data: str
    interest: str | None = None
    others: Literal["each"] | tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    sizes: Annotated[tuple[Annotated[int, Field(ge=1)] | Literal["all"], ...], Field(min_length=1)]
    arms: tuple[str, ...] | None = None


class Comparison(_Options):
    """Two arms, the first minus the second, and the tests of their difference over seeds."""

    arms: tuple[str, str]
    tests: Annotated[tuple[Test, ...], Field(min_length=1)] = ("two-sample-t", "paired-t")


class Experiment(_Sections):
    """A whole experiment; what no section of it says is the paper's.

    Attributes:
        title: what is asked.
        paper: what the paper reports, with where.
        figure: "sizes" (AUC over training sizes, one panel per setting), "sources" (likewise, and one per source within
            which it is defined), "similarity" (gain over the queries' cosine) or "arms" (one row per arm, one panel per
            setting). With `volumes` there is one, a row per arm and a panel per figure.
        size_axis: what the sizes count, for figures.
        reference: the arm that the figure "arms" draws as a line; None for none.
        checkpoint: which one is measured: that of the "best" epoch by the validation images, or the "last".
        seeds: how many; each splits the labels anew.
        folds: with `volumes`, parts of the patients, of which each is tested once, by networks of the others.
        datasets: by key; those of datasets.yaml need not be repeated.
    """

    preset: str | None = "paper"
    title: str
    paper: str
    figure: Literal["sizes", "sources", "similarity", "arms"] = "sizes"
    size_axis: str = "training images"
    reference: str | None = None
    checkpoint: Literal["best", "last"] = "best"
    seeds: Annotated[int, Field(ge=1)] = 5
    folds: Annotated[int, Field(ge=2)] = 3
    datasets: dict[str, DatasetOptions] = {}
    settings: Annotated[tuple[Setting, ...], Field(min_length=1)]
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    comparisons: tuple[Comparison, ...] = ()

    def arm(self, name: str) -> Arm:
        """Return the arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def arms_of(self, setting: Setting) -> list[Arm]:
        """Return the arms that a setting compares."""
        return [arm for arm in self.arms if setting.arms is None or arm.name in setting.arms]

    def config_values(self, *changes: Setting | Arm) -> dict[str, Any]:
        """Return what the experiment says of a configuration, with what settings and arms change."""
        values: dict[str, Any] = {}
        for layer in (self, *changes):
            said = layer.model_dump(include=set(SECTIONS))
            values = merged(values, {key: value for key, value in said.items() if value is not None})
        return values


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with changes put in; a value that is a mapping changes single keys."""
    found = dict(values)
    for key, value in changes.items():
        before = found.get(key)
        inner = isinstance(value, Mapping) and isinstance(before, Mapping)
        found[key] = merged(before, value) if inner else value  # type: ignore[arg-type]
    return found


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
        path = _shipped(name)
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


def _shipped(name: str) -> Path:
    return Path(str(files("labelassemble.experiments").joinpath(f"{name}.yaml")))


def _forget_in_settings(values: dict[str, Any], dotted: str) -> None:
    """Take a key of the whole experiment, such as views.size, out of the settings that say it for themselves."""
    *sections, key = dotted.split(".")
    settings = values.get("settings")
    if (sections or [key])[0] not in SECTIONS or not isinstance(settings, list):
        return
    for options in settings:
        for section in sections:
            options = options.get(section) if isinstance(options, dict) else None
        if isinstance(options, dict):
            options.pop(key, None)


def make_experiment(values: dict[str, Any], *, where: str = "experiment") -> Experiment:
    """Return the validated experiment of plain values.

    Raises:
        LabelAssembleError: the first thing that is wrong, in one sentence.
    """
    own = values.get("datasets") or {}
    settings = values.get("settings") or ()
    named = {setting.get("data") for setting in settings if isinstance(setting, dict)}
    shipped = read_mapping(_shipped("datasets"))
    if isinstance(own, dict):
        values = values | {"datasets": {key: shipped[key] for key in shipped if key in named} | own}
    try:
        experiment = Experiment.model_validate(values)
    except ValidationError as error:
        raise LabelAssembleError(f"{where}: {validation_sentence(error, Experiment)}") from None
    _check_kind(experiment, where)
    _check_config(experiment, where)
    others = [source["name"] for options in shipped.values() for source in options["sources"]]
    _check_names(experiment, where, others)
    _check_interest(experiment, where)
    return experiment


def _check_config(experiment: Experiment, where: str) -> None:
    """Raise unless every arm of every setting is a configuration."""

    def check(who: str, *changes: Setting | Arm, **options: Any) -> None:
        source = {"name": "any", "reader": "csv", "path": "any.csv"} | options
        config = make_config(
            experiment.config_values(*changes) | {"sources": [source]}, base=Path(), where=who
        )
        if config.train.accumulate > 1 and any(
            isinstance(change, Arm) and change.criterion == "released" for change in changes
        ):
            raise LabelAssembleError(
                f"{who}: the released loss does not add up over parts of a batch, train.accumulate must be 1, "
                f"got {config.train.accumulate}"
            )

    check(where)
    for setting in experiment.settings:
        check(f"{where}, setting '{setting.name}'", setting)
        for arm in experiment.arms_of(setting):
            check(f"{where}, arm '{arm.name}'", setting, arm, **arm.sources)


def _check_kind(experiment: Experiment, where: str) -> None:
    """Raise where something is said that is for the other kind of experiment: of images, or of volumes."""
    parts = [(f"part '{part.name}'", part) for part in experiment.parts]
    arms = [(f"arm '{arm.name}'", arm) for arm in experiment.arms]
    data = [(f"dataset '{key}'", options) for key, options in experiment.datasets.items()]
    settings = [(f"setting '{setting.name}'", setting) for setting in experiment.settings]
    said: list[tuple[str, str, object]] = []
    if experiment.volumes is None:
        said += [(who, "baseline", arm.baseline) for who, arm in arms]
        said += [(who, "labels: background", arm.labels == "background") for who, arm in arms]
        said += [(who, "per_patient", options.per_patient) for who, options in data]
        said += [("the experiment", "folds", "folds" in experiment.model_fields_set)]
        rule = "is for masks: it needs the section volumes"
    else:
        said += [(who, key, getattr(part, key)) for who, part in parts for key in ("positives", "sources")]
        said += [(who, "times", part.times > 1) for who, part in parts]
        said += [(who, "transform", arm.transform) for who, arm in arms]
        said += [(who, "criterion", arm.criterion == "released") for who, arm in arms]
        said += [(who, "classes: pair", arm.classes == "pair") for who, arm in arms]
        said += [(who, "test", options.test) for who, options in data]
        said += [(who, "others", setting.others) for who, setting in settings]
        said += [("the experiment", "checkpoint: last", experiment.checkpoint == "last")]
        rule = "is for images: leave it out with the section volumes"
    for who, key, there in said:
        if there:
            raise LabelAssembleError(f"{where}: {who}: `{key}` {rule}")
    for who, setting in settings:
        if experiment.volumes is not None and len(setting.sizes) > 1:
            sizes = ", ".join(map(str, setting.sizes))
            raise LabelAssembleError(
                f"{where}: {who}: `sizes` takes one size with the section volumes: figures are pooled, got {sizes}"
            )
    for who, arm in arms:
        if arm.baseline is not None and arm.labels != "all":
            rule = f"a baseline is fitted to all labels, so it needs `labels: all`, got '{arm.labels}'"
            raise LabelAssembleError(f"{where}: {who}: {rule}")


def _check_names(experiment: Experiment, where: str, others: Sequence[str]) -> None:
    """Raise unless names are there; a part may name sources of datasets that no setting uses, the `others`."""
    parts = [part.name for part in experiment.parts]
    arms = [arm.name for arm in experiment.arms]
    settings = [setting.name for setting in experiment.settings]
    for what, names in (("parts", parts), ("arms", arms), ("settings", settings)):
        for name in names:
            if names.count(name) > 1:
                raise LabelAssembleError(f"{where}: the name '{name}' stands twice in '{what}'")
    sources = list(dict.fromkeys(s.name for options in experiment.datasets.values() for s in options.sources))

    def check(who: str, kind: str, name: str, known: Sequence[str]) -> None:
        if name not in known:
            raise LabelAssembleError(f"{where}: {who} names no {kind}: '{name}'{did_you_mean(name, known)}")

    for setting in experiment.settings:
        check(f"setting '{setting.name}'", "dataset", setting.data, list(experiment.datasets))
        for name in setting.arms or ():
            check(f"setting '{setting.name}'", "arm", name, arms)
    for arm in experiment.arms:
        for name in arm.parts or ():
            check(f"arm '{arm.name}'", "part", name, parts)
    for part in experiment.parts:
        for name in part.sources or ():
            # A file with a column of sources calls them "source/cell".
            if name.split("/")[0] not in (*sources, *others):
                check(f"part '{part.name}'", "source of a dataset", name, sources)
    if experiment.reference is not None:
        check("reference", "arm", experiment.reference, arms)
    for name in (name for comparison in experiment.comparisons for name in comparison.arms):
        check("a comparison", "arm", name, arms)


def _check_interest(experiment: Experiment, where: str) -> None:
    """Raise where a class of interest is spoken of in a setting that has none."""
    without = [setting.name for setting in experiment.settings if setting.interest is None]
    if not without:
        return
    why = f"and setting '{without[0]}' names no class of interest"
    for setting in experiment.settings:
        if setting.interest is None and setting.others is not None:
            raise LabelAssembleError(f"{where}: others are assembled with a class of interest, {why}")
    for part in experiment.parts:
        if (
            part.labels in ("interest", "others", "others-a", "others-b", "other")
            or part.positives is not None
        ):
            raise LabelAssembleError(
                f"{where}: part '{part.name}' speaks of one by labels or positives, {why}"
            )
    for arm in experiment.arms:
        if arm.classes in ("interest", "others", "pair"):
            raise LabelAssembleError(f"{where}: arm '{arm.name}' has the classes '{arm.classes}', {why}")
