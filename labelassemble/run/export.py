"""A run exported for serving."""

import logging
from pathlib import Path

from labelassemble.data import Table
from labelassemble.data.csvfile import or_compressed
from labelassemble.data.images import decode_image
from labelassemble.data.served import not_served_alike
from labelassemble.data.table import WARNING
from labelassemble.errors import LabelAssembleError
from labelassemble.export.formats import ExportFormat, write_export
from labelassemble.export.parts import ExportSummary, Precision, take_apart
from labelassemble.export.repository import RepositoryOptions, RepositorySummary
from labelassemble.run.calibration import calibration_in_use, exported_thresholds
from labelassemble.run.folder import load_trained

_log = logging.getLogger(__name__)


def export_run(
    run: Path,
    output: Path | None = None,
    *,
    format: ExportFormat = "torchscript",
    precision: Precision = "float32",
    queries: bool = False,
    name: str | None = None,
    repository: RepositoryOptions | None = None,
    specificity: float | None = None,
) -> ExportSummary | RepositorySummary:
    """Export a run's best checkpoint, compared with eager on the run's own held-out images.

    Warns of images of the run that the programs which answer by the export do not read alike, and of classes without a
    threshold. The calibration that the run has in use (`calibration_in_use`) is inside, with its thresholds.

    Args:
        run: the folder of a run that has a best checkpoint.
        output: the file to write, or a folder; default: model.pt (.pt2, .onnx), or model_repository for "triton", in
            the run's folder; for "hub" the folder hub in it.
        format: "torchscript", "pt2", "onnx", "triton" or "hub".
        precision: of the backbone.
        queries: keep them, so that a request may ask for some classes.
        name: with "triton", of the model; default: that of the only model in the run's own model_repository, and
            without one that of the run's folder.
        repository: with "triton", version, batching, DALI and the format of the model in it.
        specificity: of the thresholds; default: the operating point of the calibration.

    Raises:
        LabelAssembleError: no trained model, an unreadable image, something missing for the format, or an export
            that differs from eager.
    """
    if format == "hub" and (name or repository or queries or precision != "float32"):
        raise LabelAssembleError(
            "of the options, --output and --specificity go with --format hub: it keeps the network as it is"
        )
    trained = load_trained(run)
    table = Table.from_csv(or_compressed(run / "table.csv"))
    for warning in not_served_alike(table):
        _log.warning(warning.removeprefix(WARNING))
    held_out = table.paths[table.splits != "train"]
    sample = (held_out if len(held_out) else table.paths)[:16]
    calibration = calibration_in_use(run)
    parts = take_apart(
        trained.net,
        classes=trained.net.classes,
        preprocess=trained.views.preprocess(),
        interest=trained.interest,
        images=[decode_image(str(path)) for path in sample],
        thresholds=exported_thresholds(calibration, trained.net.classes, specificity),
        temperature=calibration.temperatures(trained.net.classes),
        offset=calibration.offsets(trained.net.classes),
        precision=precision,
        queries=queries,
    )
    if format == "hub":
        from labelassemble.export.hub import write_hub  # which needs an extra

        card = run / "model_card.md"
        return write_hub(
            trained.net,
            trained.model.backbone,
            parts,
            run / "hub" if output is None else output,
            head=trained.model.head,
            card=card.read_text(encoding="utf-8") if card.exists() else "",
        )
    return write_export(
        parts,
        output,
        format=format,
        folder=run,
        name=name,
        repository=repository,
    )
