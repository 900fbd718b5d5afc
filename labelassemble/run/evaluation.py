"""A run evaluated: on its own held-out images, or on other data."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from labelassemble._files import make_folder, write_text
from labelassemble.config import Config, load_config
from labelassemble.data import Table, missing_files
from labelassemble.data.csvfile import or_compressed
from labelassemble.data.predictions import Predictions
from labelassemble.data.table_io import read_predictions, write_predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import (
    Calibration,
    Evaluation,
    Unreadable,
    calibrate,
    evaluate,
    read_calibration,
    write_calibration,
)
from labelassemble.evaluation.calibration import CALIBRATION_FILE
from labelassemble.evaluation.external import External, Part, prepare_external
from labelassemble.evaluation.leakage import Leakage, leakage_of
from labelassemble.evaluation.subgroups import age_bands_of
from labelassemble.head import ClassQueryHead
from labelassemble.models.features import predict_with_features
from labelassemble.report.examples import Example, example_images
from labelassemble.report.page import write_report
from labelassemble.report.record import OtherRun, OverSeeds, Results
from labelassemble.report.subgroups import write_subgroups
from labelassemble.report.unreadable import write_unreadable
from labelassemble.run.assembly import assemble_and_look, image_progress
from labelassemble.run.folder import TrainedModel, bad_files_of, load_trained
from labelassemble.run.record import read_run
from labelassemble.views.bad_files import BadFiles

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


def evaluate_run(
    run: Path,
    *,
    table: Table | None = None,
    others: Sequence[OtherRun] = (),
    over_seeds: OverSeeds | None = None,
) -> Evaluation | None:
    """Predict the validation and test images with the best checkpoint, evaluate, and write the report anew.

    Leaves predictions.csv, calibration.json, report.html, model_card.md and, where there is something to put into them,
    subgroups.csv and unreadable.csv in the run's folder.

    Args:
        run: the folder of a run that has a best checkpoint.
        table: what was assembled; default: the folder's table.csv.
        others: runs to show beside this one in the report.
        over_seeds: ways of training compared over seeds, to open the report with.

    Returns:
        The evaluation on the test images; None if the run has none.

    Raises:
        LabelAssembleError: the folder holds no finished epoch, no test image can be read, or an answer is not finite.
    """
    trained = load_trained(run)
    record = read_run(run, classes=trained.net.classes, interest=trained.interest, table=table)
    if record.table is None:
        raise LabelAssembleError(f"{run / 'table.csv'}: cannot be read (No such file or directory)")
    held_out = record.table.select(record.table.splits != "train")
    results = Results(similarity=_similarity(trained))
    if len(held_out):
        predictions, leakage, unreadable = _predict(trained, held_out)
        _require_some("test", held_out, predictions, unreadable)
        write_predictions(predictions, run / "predictions.csv")
        write_unreadable(unreadable, run)
        calibration = calibrate(predictions)
        write_calibration(calibration, run / CALIBRATION_FILE)
        tested = bool((predictions.splits == "test").any())
        results = Results(
            predictions,
            calibration,
            evaluate(
                predictions,
                calibration=calibration,
                age_bands=age_bands_of(record.config),
                unreadable=unreadable,
            )
            if tested
            else None,
            leakage,
            results.similarity,
            _examples(trained, predictions) if tested else (),
        )
        if results.evaluation is not None:
            write_subgroups(results.evaluation, run)
    write_report(record, results, others=others, over_seeds=over_seeds)
    return results.evaluation


def evaluate_on(
    run: Path, config: Config, *, name: str, part: Part, output: Path | None, console: Console
) -> tuple[Evaluation, External]:
    """Evaluate a run on another configuration's images; the run's own report stays as it is.

    Thresholds and temperatures are those of the run's validation images. Classes are aligned by name, through the
    configuration's taxonomy or else the run's; subgroups are the configuration's or else the run's. Leaves data.yaml,
    table.csv, predictions.csv, report.html and, where there is something to put into them, subgroups.csv and
    unreadable.csv.

    Args:
        run: the folder of a run that has a best checkpoint.
        config: its sources are the data.
        name: of the evaluation.
        part: "all" images, or those of one of the data's own splits.
        output: the folder to fill; default: evaluations/NAME in the run's.
        console: shows progress.

    Returns:
        The evaluation, and the data as it was used.

    Raises:
        LabelAssembleError: no class in common, only images that the run was trained on, a folder that holds something
            else, ...
    """
    trained = load_trained(run)
    folder = output or run / "evaluations" / name
    if (folder / "checkpoints").exists() or (folder.exists() and folder.samefile(run)):
        raise LabelAssembleError(f"{folder} is the folder of a run: choose another one with --output")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "data.yaml").exists():
        raise LabelAssembleError(f"{folder} holds something else than an evaluation: choose another --output")
    if (run / "config.yaml").exists():
        config = _with_defaults_of(load_config(run / "config.yaml"), config)
    record = read_run(
        run,
        classes=trained.net.classes,
        interest=trained.interest,
        table=Table.from_csv(or_compressed(run / "table.csv")),
    )
    assert record.table is not None
    external = _external(config, record.table, trained, name=name, part=part, folder=folder, console=console)
    make_folder(folder)
    write_text(folder / "data.yaml", config.to_yaml())
    external.table.to_csv(folder / "table.csv")
    with image_progress(console, "predicting") as advance:
        predictions, leakage, unreadable = _predict(trained, external.table, advance)
    _require_some("test", external.table, predictions, unreadable)
    write_predictions(predictions, folder / "predictions.csv")
    write_unreadable(unreadable, folder)
    calibration = _calibration_of(run)
    evaluation = evaluate(
        predictions, calibration=calibration, age_bands=config.age_bands, unreadable=unreadable
    )
    write_subgroups(evaluation, folder)
    examples = _examples(trained, predictions)
    results = Results(predictions, calibration, evaluation, leakage, _similarity(trained), examples)
    write_report(record, results, external=external)
    return evaluation, external


def _with_defaults_of(run: Config, config: Config) -> Config:
    """Return another configuration with the run's taxonomy, subgroups and age bands where it says nothing of them."""
    update: dict[str, object] = {} if config.taxonomy is not None else {"taxonomy": run.taxonomy}
    for key in ("subgroups", "age_bands"):
        if key not in config.model_fields_set:
            update[key] = getattr(run, key)
    return config.model_copy(update=update)


def _external(
    config: Config,
    trained_on: Table,
    trained: TrainedModel,
    *,
    name: str,
    part: Part,
    folder: Path,
    console: Console,
) -> External:
    """Return the other data, without what the run was trained on."""
    assembly = assemble_and_look(config, console)
    missing = missing_files(assembly.table.paths)
    if missing:
        raise LabelAssembleError(f"an image of the data does not exist: {missing[0]}")
    with image_progress(console, "looking for images that the run was trained on") as advance:
        external = prepare_external(
            assembly.table,
            trained_on,
            classes=trained.net.classes,
            name=name,
            folder=folder,
            part=part,
            workers=config.views.decoders(),
            progress=advance,
        )
    notes = tuple(f"{note[0].upper()}{note[1:]}." for note in assembly.report.notes)
    return replace(external, remarks=(*external.remarks, *notes))


def _calibration_of(run: Path) -> Calibration:
    """Return a run's calibration: from calibration.json, else from its validation predictions."""
    if (run / CALIBRATION_FILE).exists():
        return read_calibration(run / CALIBRATION_FILE)
    predictions = or_compressed(run / "predictions.csv")
    if predictions.exists():
        return calibrate(read_predictions(predictions))
    return Calibration()


def _similarity(trained: TrainedModel) -> NDArray[np.floating] | None:
    """Return the cosine similarity [C, C] of the learned queries, None where the head has none."""
    head = trained.net.head
    return head.similarity().cpu().numpy() if isinstance(head, ClassQueryHead) else None


def _examples(trained: TrainedModel, predictions: Predictions) -> tuple[Example, ...]:
    return example_images(trained.net, trained.net.classes, trained.views, predictions, trained.interest)


def _predict(
    trained: TrainedModel, table: Table, progress: Progress | None = None
) -> tuple[Predictions, Leakage | None, tuple[Unreadable, ...]]:
    """Return the predictions of the table's classes for what can be read, the source leakage, and what cannot be."""
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, len(table))

    bad_files = bad_files_of(len(table), trained.views)
    answers = predict_with_features(
        trained.net, table.paths.tolist(), trained.views, bad_files=bad_files, advance=advance
    )
    read = bad_files.readable(len(table))
    unknown = [name for name in table.classes if name not in trained.net.classes]
    if unknown:
        raise LabelAssembleError(
            f"the table's classes must be those of the model, got {', '.join(table.classes)}"
        )
    columns = [trained.net.classes.index(name) for name in table.classes]
    predictions = Predictions.of(table.select(read), answers.probabilities[read][:, columns])
    features = answers.features
    leakage = None if features is None else leakage_of(predictions, features[read])
    return predictions, leakage, _unreadable(table, bad_files)


def _unreadable(table: Table, bad_files: BadFiles) -> tuple[Unreadable, ...]:
    """Return the images that could not be read, in the table's order."""
    return tuple(
        Unreadable(
            str(table.paths[row]),
            str(table.splits[row]),
            str(table.sources[row]),
            bad_files.errors[row].reason,
        )
        for row in sorted(bad_files.errors)
    )


def _require_some(
    split: str, table: Table, predictions: Predictions, unreadable: Sequence[Unreadable]
) -> None:
    """Raise where the table has images of the split, and none of them could be read."""
    if (predictions.splits == split).any() or not (table.splits == split).any():
        return
    lost = [image for image in unreadable if image.split == split]
    raise LabelAssembleError(
        f"none of the {len(lost)} {split} images can be read, such as {lost[0].path}: {lost[0].reason}"
    )
