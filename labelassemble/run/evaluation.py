"""A run evaluated: on its own held-out images, or on other data."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from labelassemble._files import write_text
from labelassemble.config import Config, load_config
from labelassemble.data import Table, missing_files
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Evaluation
from labelassemble.evaluation.compare import Comparison, OverSeeds
from labelassemble.evaluation.external import External, Part, prepare_external
from labelassemble.run.assess import assess_external, assess_held_out
from labelassemble.run.folder import assemble_config, image_progress, load_trained


def evaluate_run(
    run: Path, *, comparisons: Sequence[Comparison] = (), over_seeds: OverSeeds | None = None
) -> Evaluation | None:
    """Predict the validation and test images with the best checkpoint, evaluate, and write the report anew.

    Args:
        run: the folder of a run that has a best checkpoint.
        comparisons: other runs to show beside this one in the report.
        over_seeds: ways of training compared over seeds, to open the report with.

    Returns:
        The evaluation on the test images; None if the run has none.

    Raises:
        LabelAssembleError: the folder holds no finished epoch, or an image is gone.
    """
    trained = load_trained(run)
    return assess_held_out(run, trained.network(), comparisons=comparisons, over_seeds=over_seeds)


def evaluate_on(
    run: Path, config: Config, *, name: str, part: Part, output: Path | None, console: Console
) -> tuple[Evaluation, External]:
    """Evaluate a run on another configuration's images; the run's own report stays as it is.

    Thresholds and temperatures are those of the run's validation images. Classes are aligned by name, through the
    configuration's taxonomy or else the run's.

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
    if config.taxonomy is None and (run / "config.yaml").exists():
        config = config.model_copy(update={"taxonomy": load_config(run / "config.yaml").taxonomy})
    assembly = assemble_config(config, console)
    missing = missing_files(assembly.table.paths)
    if missing:
        raise LabelAssembleError(f"an image of the data does not exist: {missing[0]}")
    with image_progress(console, "looking for images that the run has seen") as advance:
        external = prepare_external(
            assembly.table,
            Table.from_csv(run / "table.csv"),
            classes=trained.net.classes,
            name=name,
            folder=folder,
            part=part,
            workers=config.views.decoders(),
            progress=advance,
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "data.yaml", config.to_yaml())
    with image_progress(console, "predicting") as advance:
        return assess_external(run, trained.network(), external, progress=advance), external
