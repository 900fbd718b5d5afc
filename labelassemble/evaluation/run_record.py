"""What a run left in its folder, as far as it is there; what is missing is None."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labelassemble.data.csvfile import CsvFile, shown
from labelassemble.data.predictions import Predictions
from labelassemble.data.table import Table
from labelassemble.data.table_csv import read_predictions
from labelassemble.errors import LabelAssembleError

_COLUMNS = ("epoch", "seconds", "pseudo_weight", "consistency_weight", "train_loss", "val_loss", "val_auc_mean",
            "val_auc_interest")  # fmt: skip
_PSEUDO_POSITIVE = "pseudo_positive:"


@dataclass(frozen=True)
class Curves:
    """metrics.csv: how training went, an entry an epoch; None where a figure is not defined."""

    epochs: tuple[int, ...]
    columns: Mapping[str, tuple[float | None, ...]]

    @property
    def pseudo_positive(self) -> Mapping[str, tuple[float | None, ...]]:
        """By class, the share of its unknown labels that lay on the positive side; empty where not recorded."""
        return {
            name.removeprefix(_PSEUDO_POSITIVE): values
            for name, values in self.columns.items()
            if name.startswith(_PSEUDO_POSITIVE)
        }

    @property
    def seconds(self) -> float | None:
        """How long training took."""
        times = self.columns["seconds"]
        return times[-1] if times else None

    @property
    def pseudo_labels_from(self) -> int | None:
        """The first epoch in which pseudo-labels or consistency counted, None if they never did."""
        terms = zip(self.columns["pseudo_weight"], self.columns["consistency_weight"], strict=True)
        for epoch, (pseudo, consistency) in zip(self.epochs, terms, strict=True):
            if (pseudo or 0) > 0 or (consistency or 0) > 0:
                return epoch
        return None


@dataclass(frozen=True)
class RunRecord:
    """The files of one run."""

    path: Path
    config_text: str | None
    config: Mapping[str, Any]  # empty without a configuration
    environment: Mapping[str, Any] | None
    table: Table | None
    history: Curves | None
    predictions: Predictions | None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes: of the predictions, else of the table, else of the configuration."""
        for part in (self.predictions, self.table):
            if part is not None:
                return part.classes
        return _names(self.config, "classes", self.path)

    @property
    def interest(self) -> tuple[str, ...]:
        """The classes of interest, of which the run knows all; all classes where the configuration names none."""
        named = _names(self.config, "interest", self.path)
        return tuple(name for name in named if name in self.classes) or self.classes


def read_run(path: Path) -> RunRecord:
    """Return what lies in a run's folder.

    Raises:
        LabelAssembleError: no such folder, or a file in it that is damaged (one that is missing is no error).
    """
    if not path.is_dir():
        raise LabelAssembleError(f"{path}: no such folder of a run")
    config_text = _text(path / "config.yaml")
    environment_text = _text(path / "environment.json")
    table, metrics, predictions = path / "table.csv", path / "metrics.csv", path / "predictions.csv"
    return RunRecord(
        path=path,
        config_text=config_text,
        config={} if config_text is None else _yaml(config_text, path / "config.yaml"),
        environment=None if environment_text is None else _json(environment_text, path / "environment.json"),
        table=Table.from_csv(table) if table.exists() else None,
        history=read_curves(metrics) if metrics.exists() else None,
        predictions=read_predictions(predictions) if predictions.exists() else None,
    )


def read_curves(path: Path) -> Curves:
    """Return metrics.csv.

    Raises:
        LabelAssembleError: a column is missing or a cell is not a number; with file, line and column.
    """
    with CsvFile(path) as file:
        for name in _COLUMNS:
            file.require(name, "metrics of a run")
        optional = [name for name in file.header if name.startswith(_PSEUDO_POSITIVE)]
        columns = (*_COLUMNS, *optional)
        values: dict[str, list[float | None]] = {name: [] for name in columns}
        for chunk in file.chunks(columns):
            for name in columns:
                for row, cell in enumerate(chunk.columns[name]):
                    try:
                        number = float(cell) if cell else None
                    except ValueError:
                        raise chunk.error(
                            row, name, f"must be a number or blank, got {shown(cell)}"
                        ) from None
                    values[name].append(number if number is None or math.isfinite(number) else None)
            for row, cell in enumerate(chunk.columns["epoch"]):
                if not cell.isdecimal():
                    raise chunk.error(row, "epoch", f"must be a whole number, got {shown(cell)}")
    epochs = tuple(int(value) for value in values["epoch"] if value is not None)
    return Curves(epochs, {name: tuple(column) for name, column in values.items()})


def _names(config: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    names = config.get(key) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise LabelAssembleError(f"{path / 'config.yaml'}: '{key}' must be a list of names")
    return tuple(names)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error})") from None


def _yaml(text: str, path: Path) -> Mapping[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise LabelAssembleError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise LabelAssembleError(f"{path}: a configuration is a mapping of keys, got {type(values).__name__}")
    return values


def _json(text: str, path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise LabelAssembleError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise LabelAssembleError(f"{path}: must hold an object, got {type(values).__name__}")
    return values
