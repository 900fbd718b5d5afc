"""Commands for the place where a model is used."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from labelassemble.cli.app import Prevalence, Run, app, keep_freed_memory, prevalences
from labelassemble.errors import LabelAssembleError


@app.command()
def calibrate(
    run: Run,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="CONFIG",
            help="A configuration whose sources are the site's own labelled images; default: go back to the run's own "
            "validation images.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Changes to CONFIG, e.g. sources.0.limit=500"),
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="RULE", help="Operating point: specificity=0.95, sensitivity=0.9, ...")
    ] = "specificity=0.95",
    prevalence: Prevalence = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="With --data: share of the patients to choose by, 0.5 by default; the others are measured on."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --data: of the draw of these patients, 0 by default.")
    ] = None,
    own_split: Annotated[
        bool,
        typer.Option(
            "--own-split",
            help="With --data: choose by the patients of the data's own split val, and measure on the others.",
        ),
    ] = False,
) -> None:
    """Choose calibration and thresholds anew on a site's own patients, and measure them on its other patients.

    They stand in RUN/calibrations/NAME OF CONFIG with a report, and from then on every command answers with them;
    exported models in RUN are written anew. Without --data, those of the run's own validation images are in use again.
    """
    from labelassemble.config import load_config
    from labelassemble.evaluation.calibration import OperatingRule
    from labelassemble.report.detection import DetectionResults
    from labelassemble.report.operating import operating_lines, threshold_cautions
    from labelassemble.run.folder import learns_from_masks
    from labelassemble.run.site import calibrate_on, calibrate_own

    keep_freed_memory()
    rule, stated = OperatingRule.parse(at), prevalences(prevalence)
    if data is None and (overrides or stated or own_split or share is not None or seed is not None):
        raise LabelAssembleError(
            "--prevalence, --share, --seed, --own-split and KEY=VALUE go with --data CONFIG"
        )
    if own_split and (share is not None or seed is not None):
        raise LabelAssembleError("--own-split draws no patients, so --share and --seed do not go with it")
    if data is None:
        calibration = calibrate_own(run, rule)
        what = "thresholds" if learns_from_masks(run) else "calibration and thresholds"
        noun = "patients" if learns_from_masks(run) else "images"
        print(f"In use: {what} ({rule}) of the {calibration.images} validation {noun} of the run.")
        return
    site = calibrate_on(
        run,
        load_config(data, overrides or []),
        name=data.stem,
        at=rule,
        console=Console(),
        prevalence=stated,
        share=0.5 if share is None else share,
        seed=seed or 0,
        own_split=own_split,
    )
    print(f"{run.name} at {data}")
    print("".join(f"- {remark}\n" for remark in site.external.remarks))
    for name, own in site.calibration.classes.items():
        whose = "as in the run: " if own.kept else ""
        print(f"- {name}: {whose}{own.correction or f'no correction ({own.reason})'}")
    detects = isinstance(site.results, DetectionResults)
    lines, cautions = (
        operating_lines(site.results.operating, site.calibration, of_patients=detects),
        threshold_cautions(site.calibration),
    )
    print("".join(f"\n{line}" for line in lines))
    if cautions:
        print("\nBefore trusting a threshold:\n" + "\n".join(f"- {caution}" for caution in cautions))
    print(f"\nIn use from now on: {run / 'calibration.json'} (labelassemble calibrate {run} goes back)")
    for path in site.exported:
        print(f"Written anew: {path}")
    for path in site.stale:
        print(f"Still with the calibration of before: {path}: export it again")
    print(f"Report: {site.external.folder / 'report.html'}")


@app.command()
def monitor(
    run: Run,
    predictions: Annotated[
        Path,
        typer.Option(
            "--predictions",
            metavar="LOG",
            help="What was answered: a CSV of `labelassemble predict -o`, or lines of JSON.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Page to write (.html); default: RUN/monitor/NAME OF LOG.html."),
    ] = None,
) -> None:
    """Say whether scores, images and unreadable files in use still look like the validation images.

    Each quantity is compared by a Kolmogorov-Smirnov test (the share of unreadable files by Fisher's), corrected so
    that a report without any change cries drift in at most 5 of 100 cases, and by the population stability index.
    """
    from labelassemble.report.monitor import monitor_text, write_monitor
    from labelassemble.run.monitor import monitor as compared

    if output is not None and output.suffix != ".html":
        raise LabelAssembleError(f"--output must end in .html, got '{output}'")
    found = compared(run, predictions)
    page = output or run / "monitor" / f"{predictions.stem}.html"
    write_monitor(found, page, run=run.resolve().name, log=predictions.name)
    print(monitor_text(found))
    print(f"Page: {page}")
