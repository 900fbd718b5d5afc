"""Commands that measure a trained run: evaluation, comparison."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console

from labelassemble.cli.app import Prevalence, Run, app, keep_freed_memory, prevalences
from labelassemble.errors import LabelAssembleError, did_you_mean


@app.command()
def evaluate(
    run: Run,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="CONFIG",
            help="Evaluate on this configuration's sources instead (external test).",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Changes to CONFIG, e.g. sources.0.limit=500"),
    ] = None,
    split: Annotated[
        str,
        typer.Option(help="With --data: which of its images: all, or those of its split test, val or train."),
    ] = "all",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="With --data: folder to fill; default: RUN/evaluations/NAME OF CONFIG."
        ),
    ] = None,
    prevalence: Prevalence = None,
) -> None:
    """Predict a run's held-out images anew with its best checkpoint, evaluate, and rewrite the report.

    With --data, evaluate it on other images: classes are aligned by name, thresholds and calibration are those that
    the run has in use, and images that the run was trained on are left out and named. The run's own report
    stays as it is. On several processes or machines: torchrun ... -m labelassemble evaluate RUN --data CONFIG; of many
    images, the same command goes on where it was ended.
    """
    from labelassemble.config import load_config
    from labelassemble.evaluation.external import Part
    from labelassemble.report.operating import operating_lines
    from labelassemble.report.text import evaluation_text
    from labelassemble.run import evaluate_on, evaluate_run
    from labelassemble.run.folder import learns_from_masks
    from labelassemble.training.distributed import OtherProcessFailed, joined, named_by_environment

    keep_freed_memory()
    masks = learns_from_masks(run)
    process = named_by_environment()
    if process.count > 1 and (masks or data is None):
        if not process.first:
            raise typer.Exit(2)
        raise LabelAssembleError(
            "several processes evaluate runs on images with --data CONFIG: run this in one"
        )
    if masks:
        if data is not None:
            _evaluate_volumes_on(run, data, overrides or [], split, output, prevalences(prevalence))
            return
        if overrides or output is not None or split != "all":
            raise LabelAssembleError(
                "--output, --split and KEY=VALUE go with --data CONFIG (the section `detection` of a run is changed in "
                f"{run / 'config.yaml'})"
            )
        _evaluate_volumes(run, prevalences(prevalence))
        return
    if data is None:
        if overrides or output is not None or split != "all":
            raise LabelAssembleError("--output, --split and KEY=VALUE go with --data CONFIG")
        results = evaluate_run(run, prevalence=prevalences(prevalence))
        if results.evaluation is None or results.calibration is None:
            print(f"{run} has no test images, so there is nothing to evaluate.")
        else:
            print(evaluation_text(results.evaluation))
            print("".join(f"{line}\n" for line in operating_lines(results.operating, results.calibration)))
        print(f"Report: {run / 'report.html'}")
        return
    if split not in get_args(Part):
        raise LabelAssembleError(f"--split must be all, train, val or test, got '{split}'")
    settings = load_config(data, overrides or [])
    try:
        with joined() as processes:
            reached = evaluate_on(
                run,
                settings,
                name=data.stem,
                part=cast(Part, split),
                output=output,
                console=Console(),
                prevalence=prevalences(prevalence),
                processes=processes,
            )
    except OtherProcessFailed:  # which says what went wrong
        raise typer.Exit(2) from None
    if reached is None:
        return
    results, external = reached
    assert results.evaluation is not None
    assert results.calibration is not None
    print(f"{run.name} on other data: {data}")
    print("".join(f"- {remark}\n" for remark in external.remarks))
    print(evaluation_text(results.evaluation))
    print("".join(f"{line}\n" for line in operating_lines(results.operating, results.calibration)))
    print(f"Report: {external.folder / 'report.html'}")


def _evaluate_volumes(run: Path, prevalence: Mapping[str, float]) -> None:
    """Evaluate a run on volumes on its own held-out cases."""
    from labelassemble.report.detection_text import detection_text
    from labelassemble.report.operating import operating_lines
    from labelassemble.run.assembly import image_progress
    from labelassemble.run.detection import evaluate_detection_run

    with image_progress(Console(), "answering held-out", "case") as advance:
        results = evaluate_detection_run(run, progress=advance, prevalence=prevalence)
    if results.detection is None or results.calibration is None:
        print(f"{run} has no test cases, so there is nothing to evaluate.")
    else:
        print(detection_text(results.detection))
        lines = operating_lines(results.operating, results.calibration, of_patients=True)
        print("".join(f"{line}\n" for line in lines))
    print(f"Report: {run / 'report.html'}")


def _evaluate_volumes_on(
    run: Path,
    data: Path,
    overrides: list[str],
    split: str,
    output: Path | None,
    prevalence: Mapping[str, float],
) -> None:
    """Evaluate a run on volumes on other cases."""
    from labelassemble.config import load_config
    from labelassemble.evaluation.external import Part
    from labelassemble.report.detection_text import detection_text
    from labelassemble.report.operating import operating_lines
    from labelassemble.run.detection import evaluate_detection_on

    if split not in get_args(Part):
        raise LabelAssembleError(f"--split must be all, train, val or test, got '{split}'")
    results, external = evaluate_detection_on(
        run,
        load_config(data, overrides),
        name=data.stem,
        part=cast(Part, split),
        output=output,
        console=Console(),
        prevalence=prevalence,
    )
    assert results.detection is not None
    assert results.calibration is not None
    print(f"{run.name} on other data: {data}")
    print("".join(f"- {remark}\n" for remark in external.remarks))
    print(detection_text(results.detection))
    lines = operating_lines(results.operating, results.calibration, of_patients=True)
    print("".join(f"{line}\n" for line in lines))
    print(f"Report: {external.folder / 'report.html'}")


@app.command(context_settings={"ignore_unknown_options": True})
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN... [--group NAME RUN...]...", help="Folders of runs.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a page (.html) or the figures (.csv) too.")
    ] = None,
) -> None:
    """Compare runs: paired DeLong tests on the same test images, t-tests over seeds, Holm's correction.

    Runs whose config.yaml differs in nothing but train.seed are taken as one group. --group NAME RUN... names a group
    by hand, and may be repeated; it takes every run up to the next option.
    """
    from labelassemble.evaluation.compare_runs import compare_runs
    from labelassemble.report.compare_page import compare_text, write_comparison
    from labelassemble.run.record import read_tested_run

    if output is not None and output.suffix not in (".html", ".csv"):
        raise LabelAssembleError(f"--output must end in .html or .csv, got '{output}'")
    alone, groups = _grouped(runs)
    found = compare_runs(
        [read_tested_run(run) for run in alone],
        {name: [read_tested_run(run) for run in members] for name, members in groups.items()},
    )
    if output is not None:
        write_comparison(found, output)
    print(compare_text(found), end="")
    if output is not None:
        print(f"\nWritten: {output}")


def _grouped(words: list[str]) -> tuple[list[Path], dict[str, list[Path]]]:
    """Return the runs before any --group, and those of each group."""
    alone: list[Path] = []
    groups: dict[str, list[Path]] = {}
    place = alone
    rest = iter(words)
    for word in rest:
        if word == "--group":
            name = next(rest, None)
            if name is None or name.startswith("-"):
                raise LabelAssembleError("--group must be followed by a name and its runs")
            if name in groups:
                raise LabelAssembleError(f"the group '{name}' is named twice")
            place = groups.setdefault(name, [])
        elif word.startswith("-"):
            raise LabelAssembleError(f"no such option: {word}{did_you_mean(word, ['--group', '--output'])}")
        else:
            place.append(Path(word))
    return alone, groups
