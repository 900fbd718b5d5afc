"""What a run left in its folder, read for a command that starts from one; a file that is missing gives None."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labelassemble._yaml import read_mapping
from labelassemble.data.csvfile import or_compressed
from labelassemble.data.table import Table
from labelassemble.data.table_io import read_predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.compare_runs import TestedRun
from labelassemble.evaluation.leakage import LEAKAGE_FILE, read_leakage
from labelassemble.report.record import OtherRun, RunRecord
from labelassemble.training.curves import read_curves


def read_run(
    path: Path, *, classes: tuple[str, ...], interest: tuple[str, ...], table: Table | None = None
) -> RunRecord:
    """Return what is known of a run.

    Args:
        path: its folder.
        classes: names of its network's classes.
        interest: those of interest.
        table: what was assembled; default: table.csv.

    Raises:
        LabelAssembleError: no such folder, or a file in it that is damaged.
    """
    config_text, config = _config(path)
    metrics, table_file = path / "metrics.csv", or_compressed(path / "table.csv")
    if table is None and table_file.exists():
        table = Table.from_csv(table_file)
    day = datetime.fromtimestamp(metrics.stat().st_mtime, UTC) if metrics.exists() else None
    return RunRecord(
        path=path,
        classes=classes,
        interest=interest,
        config=config,
        config_text=config_text,
        environment=_environment(path / "environment.json"),
        table=table,
        curves=read_curves(metrics) if metrics.exists() else None,
        trained=None if day is None else f"{day:%Y-%m-%d}",
        notes=tuple((_text(path / "notes.txt") or "").splitlines()),
    )


def read_other_run(path: Path, name: str, description: str = "") -> OtherRun:
    """Return a run as another one's report shows it.

    Raises:
        LabelAssembleError: no predictions.csv, or a file that is damaged.
    """
    predictions, metrics = or_compressed(path / "predictions.csv"), path / "metrics.csv"
    if not predictions.exists():
        raise LabelAssembleError(f"{path}: the run '{name}' has no predictions.csv to compare with")
    seconds = read_curves(metrics).seconds if metrics.exists() else None
    leakage = read_leakage(path) if (path / LEAKAGE_FILE).exists() else None
    return OtherRun(name, description, read_predictions(predictions), seconds, leakage)


def read_tested_run(path: Path) -> TestedRun:
    """Return a run as `compare_runs` takes it.

    Raises:
        LabelAssembleError: no such folder, no predictions for test images, or a file that is damaged.
    """
    _, config = _config(path)
    file = or_compressed(path / "predictions.csv")
    predictions = read_predictions(file) if file.exists() else None
    if predictions is None or not (predictions.splits == "test").any():
        raise LabelAssembleError(f"{path} holds no predictions for test images to compare")
    known = (path / LEAKAGE_FILE).exists()
    return TestedRun(path, config, predictions, read_leakage(path) if known else None, known)


def _config(folder: Path) -> tuple[str | None, Mapping[str, Any]]:
    """Return config.yaml as text and as a mapping; unlike a `Config`, it may have been written by another version."""
    if not folder.is_dir():
        raise LabelAssembleError(f"{folder}: no such folder of a run")
    path = folder / "config.yaml"
    text = _text(path)
    return text, {} if text is None else read_mapping(path)


def _environment(path: Path) -> Mapping[str, Any] | None:
    text = _text(path)
    if text is None:
        return None
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise LabelAssembleError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise LabelAssembleError(f"{path}: must hold an object, got {type(values).__name__}")
    return values


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error})") from None
