"""A run in use: what it was asked and answered lately, compared with its validation images."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data import missing_files
from labelassemble.data.csvfile import or_compressed
from labelassemble.data.predictions import Predictions
from labelassemble.data.table import Table
from labelassemble.data.table_io import read_predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import Calibration
from labelassemble.evaluation.drift import Monitored, Observed, drift_of
from labelassemble.run.calibration import calibration_in_use
from labelassemble.run.folder import learns_from_masks, load_trained
from labelassemble.run.site import FOLDER
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.options import ViewOptions
from labelassemble.views.torch_backend import evaluation_batches

MOST: Final = 1000
"""Files that are read for statistics of the images, at most."""
STATISTICS: Final = ("brightness", "contrast")
"""Mean and standard deviation of the grey values that the network sees, 0 to 1."""

_PROBABILITY: Final = "probability:"
_SCORE: Final = "score:"  # of volumes

Floats = NDArray[np.float64]


def monitor(run: Path, log: Path) -> Monitored:
    """Return a log of answers compared with the validation images that the calibration in use was chosen on.

    Args:
        run: the folder of a run that has a best checkpoint.
        log: what `labelassemble predict -o` wrote, or lines of JSON, one an image.

    Raises:
        LabelAssembleError: no validation images, a log that cannot be read, or no class in common; of a run on volumes,
            validation patients of several cases.
    """
    views = None if learns_from_masks(run) else load_trained(run).views
    calibration = calibration_in_use(run)
    now, remarks = read_log(log, views)
    reference = _reference(run, calibration, views, with_inputs=bool(now.inputs))
    noun = "image" if views is not None else "case"
    if not reference.inputs or not now.inputs:
        why = "of volumes there are none" if views is None else "the images are not there any more"
        remarks = (*remarks, f"Statistics of the {noun}s were not compared: {why}.")
    if now.unreadable is None:
        remarks = (*remarks, "The log does not say which files could not be read.")
    absent = [name for name in reference.scores if name not in now.scores]
    if absent:
        remarks = (*remarks, f"Not compared, since the log has no scores of them: {', '.join(absent)}.")
    unknown = [
        f"{name} ({len(scores)} {noun}s)"
        for name, scores in now.scores.items()
        if name not in reference.scores
    ]
    if unknown:
        remarks = (*remarks, f"Not compared, since the run does not know them: {', '.join(unknown)}.")
    whom = "images" if views is not None else "patients"
    own = calibration.chosen_on if views is not None else calibration.chosen_on_patients
    whose = f"the {whom} of “{calibration.data}”" if calibration.data else own
    return Monitored(drift_of(reference, now), reference, now, whose, noun, remarks)


def _reference(
    run: Path, calibration: Calibration, views: ViewOptions | None, *, with_inputs: bool
) -> Observed:
    folder = run / FOLDER / calibration.data if calibration.data else run
    path = or_compressed(folder / "predictions.csv")
    if not path.exists():
        raise LabelAssembleError(f"{path} does not exist: `labelassemble evaluate {run}` writes it")
    predictions = read_predictions(path)
    rows = predictions.subset_by_split("val")
    if not len(rows):
        raise LabelAssembleError(
            f"{path} holds no validation {'images' if views is not None else 'patients'} to compare with"
        )
    table = Table.from_csv(or_compressed(folder / "table.csv"))
    if calibration.data:  # where the whole of the site's data is of one kind
        rows = predictions
    else:
        table = table.select(table.splits == "val")
    if views is None:
        _check_one_case(folder, table)
    lost = len(table) - len(rows)
    readable, rows = len(rows), _one_per_patient(rows)
    answers = calibration.apply(rows.probabilities, rows.classes)
    scores = {name: answers[:, column] for column, name in enumerate(rows.classes)}
    inputs = image_statistics(rows.paths.tolist(), views) if with_inputs and views is not None else {}
    return Observed(scores, inputs, readable, lost)


def _check_one_case(folder: Path, table: Table) -> None:
    """Raise where patients have several cases: a log has a score a volume, and theirs are over all of their cases.

    Args:
        folder: of the predictions.
        table: the cases that a log is compared with.
    """
    groups = pd.Series(np.asarray(table.groups))
    several = int((groups[groups != ""].value_counts() > 1).sum())
    if several:
        raise LabelAssembleError(
            f"a log has a score for each volume, and {several} of the patients of {folder} that it is compared with "
            "have several, whose score is one over all of them: they cannot be compared"
        )


def _one_per_patient(rows: Predictions) -> Predictions:
    """Return the first image of each patient: the tests take images as independent."""
    groups = pd.Series(np.asarray(rows.groups))
    return rows.select(np.asarray(~groups.duplicated() | (groups == "")))


def image_statistics(paths: list[str], views: ViewOptions) -> dict[str, Floats]:
    """Return `STATISTICS` of the views of up to `MOST` of the files that are there and can be read."""
    chosen = (
        paths if len(paths) <= MOST else [paths[i] for i in np.linspace(0, len(paths) - 1, MOST, dtype=int)]
    )
    gone = set(missing_files(chosen))
    chosen = [path for path in chosen if path not in gone]
    if not chosen:
        return {}
    preprocess = views.preprocess()
    found: list[Floats] = []
    bad_files = BadFiles(len(chosen), policy="skip", limit=1.0)
    for batch in evaluation_batches(chosen, views, batch_size=64, bad_files=bad_files):
        pixels = (batch.images * preprocess.std + preprocess.mean).double().flatten(1)
        found.append(np.stack([pixels.mean(1).numpy(), pixels.std(1, correction=0).numpy()], axis=1))
    table = np.concatenate(found)
    return {name: table[:, column] for column, name in enumerate(STATISTICS)}


def read_log(path: Path, views: ViewOptions | None) -> tuple[Observed, tuple[str, ...]]:
    """Return what a log says, and remarks on it.

    Args:
        path: the log.
        views: how the network sees images; None of a run on volumes.

    Raises:
        LabelAssembleError: the file cannot be read, or is no such log; with its line.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            if file.read(1) == "{":
                file.seek(0)
                return _server_log(path, file)
        return _predicted_log(path, views)
    except (OSError, UnicodeDecodeError) as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error})") from None


def _server_log(path: Path, lines: Iterable[str]) -> tuple[Observed, tuple[str, ...]]:
    rows: list[dict[str, Any]] = []
    versions: dict[str, int] = {}
    unreadable = whole = 0
    cut: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # a server that is killed leaves half a line
            cut.append(number)
            continue
        whole += 1
        if not isinstance(entry, dict) or not ({"scores", "unreadable", "dropped_lines"} & set(entry)):
            raise LabelAssembleError(
                f"{path}, line {number}: each line must be an object with scores, or with unreadable, such as "
                '{"scores": {"COVID-19": 0.1}, "brightness": 0.4, "contrast": 0.2}'
            )
        unreadable += entry.get("unreadable") is True
        if "scores" in entry:
            _check_scores(entry["scores"], f"{path}, line {number}")
            _check_inputs(entry, f"{path}, line {number}")
            rows.append(entry["scores"] | {name: entry.get(name) for name in STATISTICS})
            served = f"{entry.get('model')} version {entry.get('version')}"
            versions[served] = versions.get(served, 0) + 1
    if len(cut) > whole:
        raise LabelAssembleError(f"{path}, line {cut[0]}: not valid JSON")
    table = pd.DataFrame(rows).apply(pd.to_numeric, errors="coerce")
    inputs = {name: table.pop(name).dropna().to_numpy(np.float64) for name in STATISTICS if name in table}
    scores = {str(name): values.dropna().to_numpy(np.float64) for name, values in table.items()}
    remarks: tuple[str, ...] = ()
    if cut:
        remarks = (
            f"Left out, since they are not valid JSON: {len(cut)} of the log's lines (first: line {cut[0]}).",
        )
    if len(versions) > 1:
        told = ", ".join(f"{served} ({count} images)" for served, count in versions.items())
        remarks = (*remarks, f"The log holds answers of several models, taken together: {told}.")
    return Observed(scores, inputs, len(table), unreadable), remarks


def _check_scores(scores: object, where: str) -> None:
    if not isinstance(scores, dict):
        raise LabelAssembleError(
            f'{where}: scores must be an object, such as {{"COVID-19": 0.1}}, got {scores!r}'
        )
    for name, score in scores.items():
        if not isinstance(score, (int, float)) or not 0 <= score <= 1:
            raise LabelAssembleError(
                f"{where}: the score of '{name}' must be a number between 0 and 1, got {json.dumps(score)}"
            )


def _check_inputs(entry: dict[str, Any], where: str) -> None:
    for name in STATISTICS:
        value = entry.get(name)
        if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
            raise LabelAssembleError(
                f"{where}: {name} must be a number between 0 and 1, of grey values that are (255 is 1), got "
                f"{json.dumps(value)}"
            )


def _predicted_log(path: Path, views: ViewOptions | None) -> tuple[Observed, tuple[str, ...]]:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise LabelAssembleError(f"{path}: no CSV ({str(error).splitlines()[0]})") from None
    prefix = _PROBABILITY if views is not None else _SCORE
    names = [name for name in map(str, table.columns) if name.startswith(prefix)]
    if not names:
        raise LabelAssembleError(
            f"{path}: a log must have columns {prefix}CLASS, as `labelassemble predict -o {path.name}` writes "
            f"them, got {', '.join(map(str, table.columns[:5]))}"
        )
    read = (table[names] != "").any(axis=1)
    numbers = table[names].apply(pd.to_numeric, errors="coerce")
    odd = ~((numbers >= 0) & (numbers <= 1)).to_numpy() & read.to_numpy()[:, None]
    if odd.any():
        row, column = np.argwhere(odd)[0].tolist()
        raise LabelAssembleError(
            f"{path}, row {row + 1}: {names[column]} must be a number between 0 and 1, or blank in every class where "
            f"the {'image' if views is not None else 'case'} could not be read, got '{table[names[column]].iloc[row]}'"
        )
    remarks: tuple[str, ...] = ()
    if "path" in table and table["path"].duplicated().any():  # the tests take images as independent
        read_first = read.sort_values(ascending=False, kind="stable").index
        again = table["path"].loc[read_first].duplicated().sort_index()
        table, numbers, read = table[~again], numbers[~again], read[~again]
        remarks = (f"Left out, since another row of the log has their path: {int(again.sum())} of its rows.",)
    scores = {name.removeprefix(prefix): numbers.loc[read, name].to_numpy(np.float64) for name in names}
    paths = table.loc[read, "path"].astype(str).tolist() if "path" in table else []
    lost = int((~read).sum())
    inputs = {} if views is None else image_statistics(paths, views)
    return Observed(scores, inputs, int(read.sum()), lost or None), remarks
