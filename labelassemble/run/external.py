"""A run evaluated on other data than its own."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console

from labelassemble._files import make_folder, write_text
from labelassemble.config import Config, load_config
from labelassemble.data import Table, missing_files
from labelassemble.data.csvfile import or_compressed
from labelassemble.data.shards import PART_ROWS
from labelassemble.data.table import WITH_ARTICLE
from labelassemble.data.table_io import write_predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Calibration
from labelassemble.evaluation.external import External, Part, prepare_external
from labelassemble.evaluation.leakage import write_leakage
from labelassemble.evaluation.operating import check_prevalence
from labelassemble.report.page import write_report
from labelassemble.report.record import Results, RunRecord
from labelassemble.report.unreadable import write_unreadable
from labelassemble.run.assembly import assemble_and_look, image_progress
from labelassemble.run.calibration import calibration_in_use
from labelassemble.run.evaluation import Predicted, answered, predict_table, require_some, tested
from labelassemble.run.folder import TrainedModel, TrainedSegmenter, load_trained
from labelassemble.run.prediction import model_statement
from labelassemble.run.record import read_run
from labelassemble.run.table_parts import ANSWERS, TableParts, table_predicted
from labelassemble.training.distributed import SINGLE_PROCESS, Processes

_BAD_FILES: Final = (
    "bad_files",
    "bad_files_limit",
)  # of the other data, where it says so, or else of the run


def evaluate_on(
    run: Path,
    config: Config,
    *,
    name: str,
    part: Part,
    output: Path | None,
    console: Console,
    prevalence: Mapping[str, float] | None = None,
    processes: Processes = SINGLE_PROCESS,
) -> tuple[Results, External] | None:
    """Evaluate a run on another configuration's images; the run's own report stays as it is.

    Thresholds and calibration are those that the run has in use. Classes are aligned by name, through the
    configuration's taxonomy or else the run's; subgroups are the configuration's or else the run's. Leaves data.yaml,
    table.csv, predictions.csv, leakage.json, report.html and, where there is something to put into them,
    operating_points.csv, decision_curve.csv, subgroups.csv and unreadable.csv. Several processes share the images. Of
    many images, and with several processes, what was predicted before it was ended is not predicted again.

    Args:
        run: the folder of a run that has a best checkpoint.
        config: its sources are the data.
        name: of the evaluation.
        part: "all" images, or those of one of the data's own splits.
        output: the folder to fill; default: evaluations/NAME in the run's.
        console: shows progress.
        prevalence: by class, to state predictive values at.
        processes: that do it together.

    Returns:
        What it reaches, and the data as it was used; None in all processes but the first.

    Raises:
        LabelAssembleError: no class in common, only images that the run was trained on, a folder that holds something
            else, ...
    """
    folder = output or run / "evaluations" / name

    def opened() -> Other:
        other = open_other(run, config, folder, name=name, part=part, console=console)
        check_prevalence(prevalence or {}, other.trained.net.classes)
        return other

    other = processes.together(lambda: opened() if processes.first else None)
    if processes.count == 1 and other is not None and len(other.external.table) <= PART_ROWS:
        found: Predicted | None = other.predict(console)
    else:
        found = _predict_parts(
            run, folder, other, processes, console if processes.first else Console(quiet=True)
        )
    if other is None or found is None:
        return None
    results = other.finish(found, calibration_in_use(run), prevalence)
    shutil.rmtree(folder / ANSWERS, ignore_errors=True)
    return results, other.external


def _predict_parts(
    run: Path, folder: Path, other: "Other | None", processes: Processes, console: Console
) -> Predicted | None:
    """Predict the table together, and return what was found in the first process, which has it."""

    def begin() -> tuple[list[str], dict[str, object]]:
        assert other is not None
        other.begin()
        return other.external.table.paths.tolist(), other.asked()

    paths, asked = processes.from_first(begin)
    trained = other.trained if other is not None else load_trained(run)
    trained = replace(trained, views=trained.views.model_copy(update=asked))
    about = dict(line.split("=", 1) for line in model_statement(run, Calibration()).lines)
    parts = TableParts(paths, folder / ANSWERS, about, PART_ROWS)
    with image_progress(console, "predicting") as advance:
        plan = parts.predict(trained, processes, advance)
    if other is None:
        return None
    found = table_predicted(plan, trained, other.external.table)
    require_some("test", other.external.table, found)
    return found


@dataclass(frozen=True)
class Other:
    """A run with other data than its own, ready to be predicted.

    Attributes:
        trained: the run's network.
        record: what is known of the run.
        config: of the data, with the run's taxonomy, subgroups, age bands and search for looks by default.
        external: the data.
    """

    trained: TrainedModel
    record: RunRecord
    config: Config
    external: External

    def begin(self) -> None:
        """Write data.yaml and table.csv into the folder."""
        folder = self.external.folder
        make_folder(folder)
        write_text(folder / "data.yaml", self.config.to_yaml())
        self.external.table.to_csv(folder / "table.csv")

    def asked(self) -> dict[str, object]:
        """Return the options of files that cannot be read, where the data says them."""
        views = self.config.views
        return {key: getattr(views, key) for key in _BAD_FILES if key in views.model_fields_set}

    def predict(self, console: Console) -> Predicted:
        """Write data.yaml and table.csv into the folder; return what the network gives."""
        self.begin()
        trained = replace(self.trained, views=self.trained.views.model_copy(update=self.asked()))
        with image_progress(console, "predicting") as advance:
            found = predict_table(trained, self.external.table, advance)
        require_some("test", self.external.table, found)
        return found

    def finish(
        self, found: Predicted, calibration: Calibration, prevalence: Mapping[str, float] | None
    ) -> Results:
        """Evaluate on the images whose split is "test", and fill the folder."""
        folder, bands = self.external.folder, self.config.age_bands
        write_predictions(
            found.predictions, folder / "predictions.csv", answered(found.predictions, calibration)
        )
        write_leakage(found.leakage, folder)
        write_unreadable(found.unreadable, folder)
        results = tested(self.trained, found, calibration, bands, prevalence, folder)
        write_report(self.record, results, external=self.external)
        return results


def open_other(
    run: Path,
    config: Config,
    folder: Path,
    *,
    name: str,
    console: Console,
    part: Part = "all",
    keep_splits: bool = False,
) -> Other:
    """Return a run with another configuration's images; see `evaluate_on`.

    Raises:
        LabelAssembleError: what `evaluate_on` raises.
    """
    trained = load_trained(run)
    return Other(
        trained,
        *beside_run(
            run, trained, config, folder, name=name, part=part, keep_splits=keep_splits, console=console
        ),
    )


def beside_run(
    run: Path,
    trained: TrainedModel | TrainedSegmenter,
    config: Config,
    folder: Path,
    *,
    name: str,
    part: Part,
    keep_splits: bool,
    console: Console,
) -> tuple[RunRecord, Config, External]:
    """Return what a run was, the configuration with what the run says where it is silent, and its data.

    Raises:
        LabelAssembleError: what `evaluate_on` raises.
    """
    check_folder(run, folder)
    config = with_defaults_of_run(run, config)
    record = read_run(
        run,
        classes=trained.net.classes,
        interest=trained.interest,
        table=Table.from_csv(or_compressed(run / "table.csv")),
    )
    assert record.table is not None
    external = other_data(
        config,
        record.table,
        trained.net.classes,
        name=name,
        part=part,
        keep_splits=keep_splits,
        folder=folder,
        console=console,
    )
    return record, config, external


def check_folder(run: Path, folder: Path) -> None:
    """Raise LabelAssembleError if an evaluation of a run on other data cannot go into a folder."""
    if (folder / "checkpoints").exists() or (folder.exists() and folder.samefile(run)):
        raise LabelAssembleError(f"{folder} is the folder of a run: choose another one with --output")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "data.yaml").exists():
        raise LabelAssembleError(f"{folder} holds something else than an evaluation: choose another --output")


def with_defaults_of_run(folder: Path, config: Config) -> Config:
    """Return another configuration with a run's taxonomy, subgroups, age bands and search for looks by default."""
    if not (folder / "config.yaml").exists():
        return config
    run = load_config(folder / "config.yaml")
    update: dict[str, object] = {} if config.taxonomy is not None else {"taxonomy": run.taxonomy}
    for key in ("subgroups", "age_bands"):
        if key not in config.model_fields_set:
            update[key] = getattr(run, key)
    if run.duplicates == "looks" and "duplicates" not in config.model_fields_set:
        update["duplicates"] = run.duplicates
    return config.model_copy(update=update)


def other_data(
    config: Config,
    trained_on: Table,
    classes: Sequence[str],
    *,
    name: str,
    part: Part,
    keep_splits: bool,
    folder: Path,
    console: Console,
) -> External:
    """Return the other data, without what the run was trained on; `classes` are the run's."""
    assembly = assemble_and_look(config, console)
    missing = missing_files(assembly.table.paths)
    if missing:
        raise LabelAssembleError(f"{WITH_ARTICLE[config.noun]} of the data does not exist: {missing[0]}")
    with image_progress(console, "looking for what the run was trained on", config.noun) as advance:
        external = prepare_external(
            assembly.table,
            trained_on,
            classes=classes,
            name=name,
            folder=folder,
            part=part,
            keep_splits=keep_splits,
            duplicates=config.duplicates,
            workers=config.views.decoders(),
            progress=advance,
        )
    patients = "by patient where a source has the name, or the `patients`, of one of the run's"
    what = f"{config.noun.capitalize()}s"
    checked = (
        f"{what} that the run was trained or tuned on were looked for by path, by the content of the files, by looks "
        f"and {patients}; by looks, copies that were cropped, padded, turned, mirrored or inverted are not found."
        if config.duplicates == "looks"
        else f"{what} that the run was trained or tuned on were looked for by path, by the content of the files and "
        f"{patients}, not by looks: copies that were changed or saved anew are not found without `duplicates: looks`."
    )
    notes = tuple(f"{note[0].upper()}{note[1:]}." for note in assembly.report.notes)
    return replace(external, remarks=(*external.remarks, checked, *notes))
