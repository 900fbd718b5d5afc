"""A run's configuration: one YAML file, validated whole before anything is read or written."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from labelassemble._class_name import check_class_name
from labelassemble._validation import validation_sentence
from labelassemble._yaml import read_mapping
from labelassemble.data import DuplicateSearch, Source, SplitOptions, Taxonomy
from labelassemble.data.subgroup_options import AGE_BANDS, AgeBands, SubgroupNames
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.loss_options import LossOptions
from labelassemble.models import HEADS_BY_SOURCE, LibraryBackbone, ModelOptions
from labelassemble.models.options import VoxelBackbone
from labelassemble.training.options import TrainOptions
from labelassemble.views.options import ViewOptions
from labelassemble.views.volume_options import VolumeOptions

_log = logging.getLogger(__name__)

PRESETS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "paper": {},
    "recommended": {
        "loss": {"strong_known": True, "exclusive": True},
        "train": {"sampling": "auto", "query_lr": 0.1},
    },
}
"""What a configuration means by the keys that it leaves out, where that is not the paper's (section 3).

"recommended" keeps architecture, schedule, the terms of the loss, tau and t. It changes how labels and batches reach
them; benchmarks/results/presets_cpu.md has the measurements so far.
"""

VOLUME_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "model": {"backbone": "dynunet"},
    "loss": {"dice_weight": 1.0},
}
"""What keys mean that a configuration with `volumes` leaves out, whatever its preset."""


class Config(BaseModel):
    """Everything that a run is made of; what `preset` does not say is the paper's (section 3).

    Attributes:
        preset: "recommended", what won over the experiments, or "paper", the paper's method to the letter: what the
            keys that are left out mean (see `PRESETS`).
        sources: the datasets, each with its reader.
        classes: names and order of the classes; default: the union, in order of first appearance.
        interest: classes by which the best checkpoint is chosen and which the report puts first; default: all.
        taxonomy: synonyms, hierarchy and exclusion of classes: "thorax", "skin", or a YAML file; None takes names as
            they stand.
        subgroups: columns of the sources by which the evaluation is broken down: "sex", "age" (in bands), "view", or
            any other by its name, such as "scanner".
        age_bands: ages in years, rising, at which a band begins; the first begins at birth.
        duplicates: how the same image in two places is recognised: by its "path", by the "content" of its file too, or
            by its "looks" too.
        split: how rows without a split of their publisher are divided.
        views: what the network sees.
        volumes: of volumes and slices with masks, instead of `views`: with this section the run learns where a class
            is, voxel by voxel.
        detection: with `volumes`, how lesions and patients are evaluated.
        model: backbone and head.
        loss: the three terms.
        train: how long and how fast.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: Literal["recommended", "paper"] = "recommended"
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    classes: tuple[Annotated[str, AfterValidator(check_class_name)], ...] | None = None
    interest: tuple[str, ...] = ()
    taxonomy: str | None = None
    subgroups: SubgroupNames = ()
    age_bands: AgeBands = AGE_BANDS
    duplicates: DuplicateSearch = "content"
    split: SplitOptions = SplitOptions()
    views: ViewOptions = ViewOptions()
    volumes: VolumeOptions | None = None
    detection: DetectionOptions | None = None
    model: ModelOptions = ModelOptions()
    loss: LossOptions = LossOptions()
    train: TrainOptions = TrainOptions()

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        """Fill in what the preset says of keys that are left out."""
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset", "recommended")
        filled = dict(values)
        if isinstance(preset, str) and preset in PRESETS:
            _fill_in(filled, PRESETS[preset])
        if values.get("volumes") is not None:
            _fill_in(filled, VOLUME_DEFAULTS)
        return filled

    @model_validator(mode="after")
    def _backbone_of_the_task(self) -> Self:
        """Refuse what the other task has: a network for images with volumes, one for voxels without."""
        backbone, voxels = self.model.backbone, get_args(VoxelBackbone)
        if self.volumes is None:
            if backbone in voxels:
                raise ValueError(f"model.backbone {backbone} answers voxels: it needs the section volumes")
            if self.loss.dice_weight > 0:
                raise ValueError("loss.dice_weight is for masks: it needs the section volumes")
            return self
        if backbone not in voxels:
            raise ValueError(
                f"model.backbone must be one of {', '.join(voxels)} with the section volumes, got {backbone}"
            )
        if self.model.head != "class_query":
            raise ValueError(
                f"model.head must be class_query with the section volumes, got {self.model.head}"
            )
        if self.model.pretrained is not None:
            raise ValueError(
                "model.pretrained is for images: with the section volumes go on from a run by --from"
            )
        return self

    @property
    def noun(self) -> str:
        """What a row of the table is called where users read it: "case" of volumes and slices, else "image"."""
        return "image" if self.volumes is None else "case"

    def load_taxonomy(self) -> Taxonomy | None:
        """Return the taxonomy that the configuration names.

        Raises:
            LabelAssembleError: there is no such taxonomy, or its file is wrong.
        """
        return None if self.taxonomy is None else Taxonomy.load(self.taxonomy)

    def to_yaml(self) -> str:
        """Return the configuration as YAML that `load_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _fill_in(values: dict[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> None:
    """Give the keys that are left out of sections their values, in place."""
    for section, keys in defaults.items():
        own = values.get(section, {})
        if isinstance(own, Mapping):
            values[section] = {**keys, **own}
        elif isinstance(own, BaseModel):
            left_out = {key: value for key, value in keys.items() if key not in own.model_fields_set}
            values[section] = own.model_copy(update=left_out)


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration in a YAML file, with its relative paths resolved against the file's folder.

    Args:
        path: the file.
        overrides: ``key.key=value`` each, the value in YAML; they win over the file.

    Raises:
        LabelAssembleError: no such file, not YAML, a key that is unknown, missing or wrong, a class or an argument that
            kornia does not have: named in one sentence.
    """
    path = Path(path)
    values = read_mapping(path, overrides)
    of_a_run = path.name == "config.yaml" and (path.parent / "environment.json").exists()
    if of_a_run:
        values.setdefault("preset", "paper")  # a run's folder of a version that knew no other
    config = make_config(values, base=path.parent, where=str(path))
    if not of_a_run:  # its lists were checked, and what evaluates a run needs no kornia
        _check_lists(config, str(path))
    return config


def _check_lists(config: Config, where: str) -> None:
    """Raise where a view's list of augmentations names what kornia has not, or what it refuses."""
    views = config.views if config.volumes is None else config.volumes
    if not isinstance(views.weak, tuple) and not isinstance(views.strong, tuple):
        return
    from labelassemble.views.kornia_views import view_lists, volume_lists  # and with it torch and kornia

    try:
        if config.volumes is None:
            view_lists(config.views)
        else:
            volume_lists(config.volumes)
    except LabelAssembleError as error:
        raise LabelAssembleError(f"{where}: {error}") from None


def make_config(values: Mapping[str, Any], *, base: Path, where: str = "configuration") -> Config:
    """Return the validated configuration of plain values; relative paths are resolved against `base`.

    Raises:
        LabelAssembleError: the first thing that is wrong, named in one sentence.
    """
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise LabelAssembleError(f"{where}: {validation_sentence(error, Config)}") from None
    names = [source.name for source in config.sources]
    for name in names:
        if names.count(name) > 1:
            raise LabelAssembleError(f"{where}: the name '{name}' stands for two sources")
    if config.volumes is None:
        for source in config.sources:
            if source.reader == "volumes":
                raise LabelAssembleError(
                    f"{where}: source '{source.name}' has volumes or slices, and the section `volumes` must "
                    "say what the network sees of them: volumes: {patch: [96, 96, 96]}, or two numbers for slices"
                )
    sources = tuple(source.resolved(base.resolve()) for source in config.sources)
    try:
        model, views = _model_and_views(config, base.resolve())
    except LabelAssembleError as error:
        raise LabelAssembleError(f"{where}: 'model.backbone': {error}") from None
    taxonomy = config.taxonomy
    if taxonomy is not None and taxonomy.endswith((".yaml", ".yml")):
        taxonomy = str(base.resolve() / taxonomy)
    if config.detection is not None and config.volumes is None:
        raise LabelAssembleError(f"{where}: 'detection' goes with 'volumes', which the configuration lacks")
    changed = {
        "sources": sources,
        "model": model,
        "views": views,
        "taxonomy": taxonomy,
        "loss": _loss(config, where),
        "detection": None if config.volumes is None else config.detection or DetectionOptions(),
    }
    return config.model_copy(update=changed)


def _model_and_views(config: Config, base: Path) -> tuple[ModelOptions, ViewOptions]:
    """Return both with what a backbone of another library says of them: the values that its weights expect."""
    model, views = config.model, config.views
    if model.pretrained is not None:
        model = model.model_copy(update={"pretrained": base / model.pretrained})
    backbone = model.backbone
    if not isinstance(backbone, LibraryBackbone):
        return model, views
    from labelassemble.models.libraries.backbone import check_backbone, input_values  # they import torch

    check_backbone(backbone)
    if isinstance(backbone.pretrained, Path):
        backbone = backbone.model_copy(update={"pretrained": base / backbone.pretrained})
        model = model.model_copy(update={"backbone": backbone})
    values = input_values(backbone, views.channels)
    if values is None:
        return model, views
    expected = {"mean": values.mean, "std": values.std}
    left_out = {key: value for key, value in expected.items() if key not in views.model_fields_set}
    other = [key for key in expected if key not in left_out and not _same(getattr(views, key), expected[key])]
    if other and backbone.pretrained:
        wanted = " and ".join(f"views.{key} {list(expected[key])}" for key in other)
        given = " and ".join(f"{list(getattr(views, key))}" for key in other)
        _log.warning(
            f"the weights of {backbone} expect {wanted}, and the configuration has {given}: leave "
            f"{'it' if len(other) == 1 else 'them'} out to take the weights' own"
        )
    return model, views.model_copy(update=left_out)


def _same(values: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether two means or spreads are the same, of which one may stand for all channels."""
    length = max(len(values), len(others))
    pairs = zip(tuple(values) * (length // len(values)), tuple(others) * (length // len(others)), strict=True)
    return all(math.isclose(one, other, rel_tol=1e-3) for one, other in pairs)


def _loss(config: Config, where: str) -> LossOptions:
    """Return the loss: a head that answers only what an image's source labels has nothing to pseudo-label."""
    loss = config.loss
    if config.model.head not in HEADS_BY_SOURCE:
        return loss
    weights = ("pseudo_weight", "consistency_weight")
    for key in weights:
        if key in loss.model_fields_set and getattr(loss, key) > 0:
            raise LabelAssembleError(
                f"{where}: 'loss.{key}' must be 0 or left out with model.head {config.model.head}, which answers an "
                f"image only for what its source labels, got {getattr(loss, key):g}"
            )
    return loss.model_copy(update=dict.fromkeys(weights, 0.0))
