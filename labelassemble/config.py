"""A run's configuration: one YAML file, validated whole before anything is read or written."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from labelassemble._class_name import check_class_name
from labelassemble.data import DuplicateSearch, Source, SplitOptions, Taxonomy
from labelassemble.data.subgroup_options import AGE_BANDS, AgeBands, SubgroupNames
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.loss_options import LossOptions
from labelassemble.models import HEADS_BY_SOURCE, ModelOptions
from labelassemble.models.options import VoxelBackbone
from labelassemble.training.options import TrainOptions
from labelassemble.views.options import ViewOptions
from labelassemble.views.volume_options import VolumeOptions

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

    model_config = ConfigDict(frozen=True, extra="forbid")

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


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration in a YAML file, with its relative paths resolved against the file's folder.

    Args:
        path: the file.
        overrides: ``key.key=value`` each, the value in YAML; they win over the file.

    Raises:
        LabelAssembleError: no such file, not YAML, a key that is unknown, missing or wrong: named in one sentence.
    """
    values = read_mapping(path, overrides)
    if path.name == "config.yaml" and (path.parent / "environment.json").exists():
        values.setdefault("preset", "paper")  # a run's folder of a version that knew no other
    return make_config(values, base=path.parent, where=str(path))


def read_mapping(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the mapping in a YAML file, with ``key.key=value`` overrides put in.

    Raises:
        LabelAssembleError: no such file, not YAML, a key given twice, not a mapping, or a wrong override.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabelAssembleError(f"{path}: no such configuration file") from None
    except OSError as error:
        raise LabelAssembleError(
            f"{path}: cannot be read as a configuration ({error.strerror or error})"
        ) from error
    except UnicodeDecodeError as error:
        raise LabelAssembleError(f"{path}: cannot be read as a configuration ({error})") from error
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise LabelAssembleError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise LabelAssembleError(f"{path}: a configuration is a mapping of keys, got {_kind(values)}")
    for override in overrides:
        apply_override(values, override)
    return values


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
    model = config.model
    if model.pretrained is not None:
        model = model.model_copy(update={"pretrained": base.resolve() / model.pretrained})
    taxonomy = config.taxonomy
    if taxonomy is not None and taxonomy.endswith((".yaml", ".yml")):
        taxonomy = str(base.resolve() / taxonomy)
    if config.detection is not None and config.volumes is None:
        raise LabelAssembleError(f"{where}: 'detection' goes with 'volumes', which the configuration lacks")
    changed = {
        "sources": sources,
        "model": model,
        "taxonomy": taxonomy,
        "loss": _loss(config, where),
        "detection": None if config.volumes is None else config.detection or DetectionOptions(),
    }
    return config.model_copy(update=changed)


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


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, of which YAML would silently keep the last."""


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    merge = "tag:yaml.org,2002:merge"  # "<<: *anchor", whose keys the mapping's own replace
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != merge]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' is given twice", node.start_mark
            )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Put a ``key.key=value`` into plain values, in place; a number stands for a position in a list.

    Raises:
        LabelAssembleError: it is no override, or its key leads nowhere.
    """
    dotted, separator, text = override.partition("=")
    keys = dotted.split(".")
    if not separator or not all(keys):
        raise LabelAssembleError(f"an override must look like train.lr=1e-4, got '{override}'")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise LabelAssembleError(f"the value of the override '{override}' is not valid YAML") from None
    place: Any = values
    for depth, key in enumerate(keys[:-1]):
        if isinstance(place, list):
            place = place[_index(key, place, override)]
            continue
        if place.get(key) is None:
            place[key] = {}
        place = place[key]
        if not isinstance(place, (dict, list)):
            raise LabelAssembleError(
                f"{'.'.join(keys[: depth + 1])} has no keys below it (override '{override}')"
            )
    if isinstance(place, list):
        place[_index(keys[-1], place, override)] = value
    else:
        place[keys[-1]] = value


def _index(key: str, place: list[Any], override: str) -> int:
    if not key.isdigit() or int(key) >= len(place):
        raise LabelAssembleError(f"'{key}' is no position in a list of {len(place)} (override '{override}')")
    return int(key)


def validation_sentence(error: ValidationError, *models: type[BaseModel]) -> str:
    """Return the first error as a sentence: the key, the rule and what came.

    Args:
        error: of validating one of the models.
        models: that the error may be of, told apart by the title that pydantic gives; keys of the first are named by
            themselves, those of another as of that model.
    """
    # Unknown keys first: a misspelt key often makes another one missing.
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    location = [part for part in first["loc"] if isinstance(part, (str, int))]
    model = next((model for model in models if model.__name__ == error.title), models[0])
    keys, parent = _walk(model, location[:-1])
    if location:
        keys += _walk(parent, location[-1:])[0]
    shown = ".".join(keys)
    if first["type"] == "extra_forbidden":
        parent = _strip(parent)
        known = list(parent.model_fields) if _is_model(parent) else []
        place = "" if model is models[0] else f" of {error.title}"
        return f"unknown key '{shown}'{place}{did_you_mean(str(location[-1]), known)}"
    if first["type"] == "missing":
        return f"the key '{shown}' is missing"
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        readers = sorted(_readers(_walk(model, location)[1]))
        tag = first.get("ctx", {}).get("tag")
        if tag is None:
            keys = list(first["input"]) if isinstance(first.get("input"), dict) else []
            near = difflib.get_close_matches("reader", map(str, keys), n=1, cutoff=0.6)
            if near:
                return f"unknown key '{shown}.{near[0]}', did you mean 'reader'?"
            return f"the key '{shown}.reader' is missing, known readers: {', '.join(readers)}"
        return f"unknown reader '{tag}' in '{shown}'{did_you_mean(str(tag), readers)}"
    if first["type"] == "too_short" and not first.get("input"):
        return f"'{shown}' must have at least one entry, got none"
    if first["type"] == "literal_error":
        expected = first.get("ctx", {}).get("expected", "")
        hint = did_you_mean(str(first.get("input")), re.findall(r"'([^']*)'", expected))
        if "did you mean" in hint:
            return f"'{shown}' must be {expected}, got {first.get('input')!r}{hint}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "path_type":  # pydantic names the class
        message = "input should be a path"
    message = message[0].lower() + message[1:]
    value = first.get("input")
    came = "" if isinstance(value, (dict, list, tuple)) else f", got {value!r}"
    return f"'{shown}': {message}{came}" if shown else message  # a rule between sections names its keys


def _walk(annotation: Any, location: Sequence[str | int]) -> tuple[list[str], Any]:
    """Return the keys to show for a location, without the tags of a union, and what stands there; None if unknown."""
    keys = []
    for part in location:
        annotation = _strip(annotation)
        if part in (readers := _readers(annotation)):
            annotation = readers[str(part)]
            continue
        if get_origin(annotation) in (Union, UnionType):  # the part is the tag of one of its types
            annotation = None
            continue
        keys.append(str(part))
        if _is_model(annotation):
            field = annotation.model_fields.get(str(part))
            annotation = None if field is None else field.annotation
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
        elif get_origin(annotation) is tuple and isinstance(part, int):
            annotation = get_args(annotation)[0]
        else:
            annotation = None
    return keys, annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _strip(annotation: Any) -> Any:
    """Return the annotation without Annotated and without None."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, UnionType):
            inner = [argument for argument in get_args(annotation) if argument is not type(None)]
            if len(inner) != 1:
                return annotation
            annotation = inner[0]
        else:
            return annotation


def _readers(annotation: Any) -> dict[str, type[BaseModel]]:
    """Return the models of a union of readers by their tags; none for anything else."""
    annotation = _strip(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return {tag: model for member in get_args(annotation) for tag, model in _readers(member).items()}
    if not _is_model(annotation) or "reader" not in annotation.model_fields:
        return {}
    return dict.fromkeys(get_args(annotation.model_fields["reader"].annotation), annotation)


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
