"""Commands that ask a trained run about images: predictions, heat maps."""

import sys
from pathlib import Path
from typing import Annotated, Final, cast, get_args

import typer

from labelassemble.cli.app import (
    Bits,
    Run,
    StoredOrientation,
    app,
    check_not_input,
    image_references,
    keep_freed_memory,
)
from labelassemble.errors import LabelAssembleError

_OF_IMAGES: Final = "--bits, --ignore-orientation and --uncalibrated are for runs on images"

Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace DICOM and FHIR files that are there under the same names."),
]


@app.command()
def predict(
    run: Run,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Image files (PNG, JPEG, ...), or sets of them: tar shards (train-{000000..000146}.tar) and "
            "Parquet lists with a column path; for a run on volumes, volumes (.nii.gz, folders of DICOM slices), "
            "slices or lists of them.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write a CSV here instead of printing it; of sets of images, a folder of Parquet files; of a volume, "
            "its mask (.nii.gz), and beside it the map of probabilities.",
        ),
    ] = None,
    uncalibrated: Annotated[
        bool,
        typer.Option(
            "--uncalibrated",
            help="Give probabilities as the network does, without the calibration in RUN/calibration.json, with which "
            "every other command and exported model answers.",
        ),
    ] = False,
    bits: Bits = None,
    ignore_orientation: StoredOrientation = False,
    dicom_sr: Annotated[
        Path | None,
        typer.Option(
            "--dicom-sr",
            metavar="FOLDER",
            help="Write a DICOM structured report (TID 1500) for each DICOM image into this folder; for research use.",
        ),
    ] = None,
    dicom_seg: Annotated[
        Path | None,
        typer.Option(
            "--dicom-seg",
            metavar="FOLDER",
            help="Of a run on volumes: write a DICOM segmentation of each series into this folder; for research use.",
        ),
    ] = None,
    fhir: Annotated[
        Path | None,
        typer.Option(
            "--fhir",
            metavar="FOLDER",
            help="Write a FHIR DiagnosticReport (JSON) for each DICOM image into this folder; for research use.",
        ),
    ] = None,
    fhir_release: Annotated[str, typer.Option("--fhir-release", metavar="R4|R5", help="Of --fhir.")] = "R4",
    overwrite: Overwrite = False,
) -> None:
    """Print the probability of every class for each image, as CSV; of volumes the patient's scores.

    Sets of images are answered part by part; the same command goes on where it was ended. On several processes or
    machines: torchrun ... -m labelassemble predict RUN SET... -o FOLDER.
    """
    from labelassemble.data.shards import are_sets
    from labelassemble.run.folder import learns_from_masks

    if output is not None:
        check_not_input(output, images)
    asked = {"--dicom-sr": dicom_sr, "--fhir": fhir}
    reports = {option: folder for option, folder in asked.items() if folder is not None}
    masks = learns_from_masks(run)
    if are_sets(images):
        if masks and (bits is not None or ignore_orientation or uncalibrated):
            raise LabelAssembleError(_OF_IMAGES)
        if reports or dicom_seg is not None or output is None or output.suffix in (".csv", ".parquet"):
            raise LabelAssembleError(
                "sets of images and volumes are answered into a folder of Parquet files: give one with --output"
            )
        _predict_sets(run, images, output, uncalibrated, bits, ignore_orientation)
        return
    if masks:
        if bits is not None or ignore_orientation or uncalibrated:
            raise LabelAssembleError(_OF_IMAGES)
        if reports:
            raise LabelAssembleError(
                f"{next(iter(reports))} is for runs on images; {run} is a run on volumes, of which --dicom-seg writes "
                "the mask as DICOM and --output as NIfTI"
            )
        _predict_volumes(run, images, output, dicom_seg, overwrite)
        return
    if dicom_seg is not None:
        raise LabelAssembleError(
            f"--dicom-seg is for runs on volumes, and {run} is one on images: see --dicom-sr"
        )
    from labelassemble.interoperability.fhir import Release
    from labelassemble.run import write_probabilities
    from labelassemble.run.prediction import answer_images

    if uncalibrated and reports:
        raise LabelAssembleError(
            f"{next(iter(reports))} states thresholds, which are on calibrated probabilities: leave --uncalibrated out"
        )
    if fhir_release not in get_args(Release):
        raise LabelAssembleError(f"--fhir-release must be R4 or R5, got '{fhir_release}'")
    keep_freed_memory()
    paths, references = [str(image) for image in images], image_references(images, bits, ignore_orientation)
    sources = []
    if reports:
        from labelassemble.run.reports import read_sources, write_reports  # with matplotlib, which takes time

        sources = read_sources(references, reports, overwrite=overwrite)
    answered = answer_images(run, references, uncalibrated=uncalibrated)
    for warning in answered.warnings:
        print(f"labelassemble: {warning}", file=sys.stderr)
    if reports:
        for file in write_reports(run, answered, sources, reports, release=cast(Release, fhir_release)):
            print(f"labelassemble: {file}", file=sys.stderr)
    if output is not None or not reports:
        write_probabilities(output, answered.classes, paths, answered.probabilities)


def _predict_sets(
    run: Path,
    sets: list[Path],
    folder: Path,
    uncalibrated: bool,
    bits: int | None,
    ignore_orientation: bool,
) -> None:
    """Answer this process's share of sets of images into a folder."""
    from labelassemble.data.decoding import Decoding
    from labelassemble.report.format import plural
    from labelassemble.run.parts import PartAnswers, answer_parts
    from labelassemble.run.sets import SetAnswerer
    from labelassemble.training.distributed import named_by_environment

    process = named_by_environment()
    keep_freed_memory()
    how = Decoding(bits, "ignore" if ignore_orientation else "exif")
    answerer = SetAnswerer(
        run, sets, folder, uncalibrated=uncalibrated, how=how, local_rank=process.local_rank
    )
    plan = answerer.plan
    plan.begin()
    written = 0

    def wrote(index: int, found: PartAnswers) -> None:
        nonlocal written
        written += 1
        bad = f", {len(found.errors)} cannot be read" if found.errors else ""
        print(
            f"{plan.file(index)}: {plural(len(found.images), 'image' if plan.kind == 'probability' else 'case')}{bad}",
            flush=True,
        )

    failed = answer_parts(plan, answerer.answer, rank=process.rank, count=process.count, wrote=wrote)
    own = len(range(process.rank, len(plan.parts), process.count))
    print(
        f"process {process.rank + 1} of {process.count}: {plural(written, 'part')} answered, "
        f"{own - written - len(failed)} were there, of {len(plan.parts)} in all",
        flush=True,
    )
    if failed:
        raise LabelAssembleError(
            f"{plural(len(failed), 'part')} cannot be read; once that is mended, the same command answers them:\n  "
            + "\n  ".join(failed)
        )


def _predict_volumes(
    run: Path, volumes: list[Path], output: Path | None, dicom_seg: Path | None, overwrite: bool
) -> None:
    """Print the scores of each volume, and write the mask of one, or segmentations of all."""
    import numpy as np

    from labelassemble.run.folder import load_segmenter, write_probabilities
    from labelassemble.run.segment import (
        answer_volume,
        detection_options,
        probability_file,
        volume_scores,
        write_answer,
    )
    from labelassemble.run.segmentations import Segmentations

    options = detection_options(run)
    mask = None if output is None or output.suffix == ".csv" else output
    if mask is not None:
        check_not_input(probability_file(mask), volumes)  # before anything is computed
        if len(volumes) > 1:
            raise LabelAssembleError(
                f"--output {mask} is the mask of one volume, got {len(volumes)}: give one at a time, or a .csv"
            )
    segmentations = None if dicom_seg is None else Segmentations(run, volumes, dicom_seg, overwrite=overwrite)
    trained = load_segmenter(run)
    names, paths, scores = trained.net.classes, [str(volume) for volume in volumes], []
    for path in paths:
        answer = answer_volume(trained, path)
        scores.append(volume_scores(answer.probabilities, options))
        if segmentations is not None:
            print(f"labelassemble: {segmentations.write(path, answer)}", file=sys.stderr)
        if mask is not None:
            write_answer(answer, mask, threshold=options.threshold)
            values = ", ".join(f"{index + 1} {name}" for index, name in enumerate(names))
            print(f"labelassemble: {mask} ({values}), {probability_file(mask)}", file=sys.stderr)
    table = output if output is not None and mask is None else None
    write_probabilities(table, names, paths, np.stack(scores), kind="score")


@app.command()
def explain(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files (PNG, JPEG, ...).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write a PNG an image into.")],
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", metavar="A,B", help="Classes to explain; default: the run's classes of interest."
        ),
    ] = None,
    bits: Bits = None,
    ignore_orientation: StoredOrientation = False,
    dicom_sc: Annotated[
        bool,
        typer.Option(
            "--dicom-sc",
            help="Write a DICOM Secondary Capture beside each PNG; the images are DICOM, and it is for research use.",
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw where in each image the model finds evidence for a class (Grad-CAM); no proof of reasoning."""
    import numpy as np

    from labelassemble.explain.images import write_heat_maps
    from labelassemble.explain.overlay import NO_PROOF
    from labelassemble.run import calibration_in_use, load_trained
    from labelassemble.run.folder import learns_from_masks
    from labelassemble.run.reports import Captures

    if learns_from_masks(run):
        raise LabelAssembleError(
            f"{run} is a run on volumes, whose map of probabilities says where it finds a class: `labelassemble "
            f"predict {run} {images[0]} -o mask.nii.gz` writes it"
        )
    references = image_references(images, bits, ignore_orientation)
    captures = Captures(run, references, output, overwrite=overwrite) if dicom_sc else None
    trained = load_trained(run)
    calibration = calibration_in_use(run)
    chosen = trained.interest if classes is None else [name.strip() for name in classes.split(",")]
    for drawn in write_heat_maps(
        trained.net,
        references,
        trained.views,
        output,
        names=trained.net.classes,
        chosen=chosen,
        answered=lambda name, probability: float(calibration.apply(np.array([[probability]]), [name])[0, 0]),
    ):
        print(drawn.file)
        if captures is not None:
            print(captures.write(drawn))
    print(NO_PROOF)
