"""The command line."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console
from rich.table import Table as RichTable

from labelassemble.errors import LabelAssembleError, did_you_mean

app = typer.Typer(
    name="labelassemble",
    help="Learn one model from datasets that label different things.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# What a disk says that takes no more.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder of a run, as `labelassemble train` leaves it.")
]


def main() -> None:
    """Run the command line; a user's mistake is one sentence on stderr and exit status 2."""
    try:
        app()
    except LabelAssembleError as error:
        print(f"labelassemble: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nlabelassemble: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        print(
            f"labelassemble: {error.filename or 'a file'}: cannot be written ({error.strerror})",
            file=sys.stderr,
        )
        sys.exit(2)


@app.command()
def doctor() -> None:
    """Say what is installed, what was built, and why not where something was not."""
    from labelassemble.doctor import examine

    findings = examine()
    table = RichTable(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    marks = {True: "[green]ok[/green]", False: "[red]no[/red]", None: "  "}
    for finding in findings:
        table.add_row(f"{marks[finding.good]} {finding.name}", finding.what)
    Console().print(table, highlight=False)
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to leave everything in.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first (or only) repetition.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with this many seeds and print the spread.")] = 1,
    clinic_images: Annotated[
        int, typer.Option(help="Images that the clinic trains on, a third of them eights; 3 to 300.")
    ] = 60,
    overwrite: Annotated[bool, typer.Option(help="Remove an earlier demo in the folder first.")] = False,
) -> None:
    """Train on handwritten digits from three sources that label different digits, and compare."""
    import shutil

    from labelassemble.experiments.demo import run_demo

    if output.exists() and any(output.iterdir()):
        if not overwrite:
            raise LabelAssembleError(
                f"{output} is not empty: add --overwrite, or choose another folder with --output"
            )
        if not (output / "demo.yaml").exists() and not list(output.glob("seed-*/demo.yaml")):
            raise LabelAssembleError(f"{output} holds something else than a demo, so it is not overwritten")
        shutil.rmtree(output)
    with _interruptible("labelassemble demo --overwrite begins anew"):
        run_demo(output, seeds=range(seed, seed + seeds), clinic_images=clinic_images, console=Console())


@app.command()
def train(
    config: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="YAML configuration, or with --resume the folder of a run."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="e.g. train.lr=1e-4")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; default: runs/NAME OF THE FILE.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Begin with what another run has learnt; a class that CONFIG has besides gets a query of its own. "
            "With train.freeze_backbone=true the head alone is trained, with train.freeze_known=true the new classes "
            "alone.",
        ),
    ] = None,
) -> None:
    """Assemble the sources, train, evaluate, and leave a run's folder with a report.

    On several processes or GPUs: torchrun --nproc-per-node N -m labelassemble train CONFIG. They share the images of
    train.batch_size, so the learning curve is that of one process.
    """
    from labelassemble.config import load_config
    from labelassemble.run import train_run
    from labelassemble.training.distributed import joined

    run = output
    if config.is_dir():
        if not resume:
            raise LabelAssembleError(
                f"{config} is a folder, not a configuration: to go on with a run, add --resume"
            )
        if not (config / "config.yaml").exists():
            raise LabelAssembleError(f"{config} holds no run: {config / 'config.yaml'} does not exist")
        run = run or config
        config = config / "config.yaml"
    run = run or Path("runs") / config.stem
    settings = load_config(config, overrides or [])
    console = Console()
    how = f"go on with: labelassemble train {run} --resume"
    with joined() as processes, _interruptible(how, say=processes.first):
        result = train_run(
            settings, run, resume=resume, console=console, start_from=start_from, processes=processes
        )
    if not processes.first:
        return
    if result.evaluation is not None:
        console.print(result.evaluation.to_text(), highlight=False, soft_wrap=True, markup=False)
    outcome = result.outcome
    why = " (the validation loss no longer fell)" if outcome.early else ""
    console.print(
        f"{outcome.epochs} epochs{why} in {outcome.seconds:.0f} s, best: epoch {outcome.best_epoch}\n"
        f"Report: {run / 'report.html'}",
        highlight=False,
        soft_wrap=True,
    )


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
) -> None:
    """Predict a run's held-out images anew with its best checkpoint, evaluate, and rewrite the report.

    With --data, evaluate it on other images: classes are aligned by name, thresholds and temperatures are those of the
    run's validation images, and images that the run was trained on are left out and named. The run's own report
    stays as it is.
    """
    from labelassemble.config import load_config
    from labelassemble.evaluation.external import Part
    from labelassemble.run import evaluate_on, evaluate_run

    if data is None:
        if overrides or output is not None or split != "all":
            raise LabelAssembleError("--output, --split and KEY=VALUE go with --data CONFIG")
        evaluation = evaluate_run(run)
        if evaluation is None:
            print(f"{run} has no test images, so there is nothing to evaluate.")
        else:
            print(evaluation.to_text())
        print(f"Report: {run / 'report.html'}")
        return
    if split not in get_args(Part):
        raise LabelAssembleError(f"--split must be all, train, val or test, got '{split}'")
    settings = load_config(data, overrides or [])
    evaluation, external = evaluate_on(
        run, settings, name=data.stem, part=cast(Part, split), output=output, console=Console()
    )
    print(f"{run.name} on other data: {data}")
    print("".join(f"- {remark}\n" for remark in external.remarks))
    print(evaluation.to_text())
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
    from labelassemble.evaluation.versus import compare_runs
    from labelassemble.evaluation.versus_output import versus_text, write_versus

    if output is not None and output.suffix not in (".html", ".csv"):
        raise LabelAssembleError(f"--output must end in .html or .csv, got '{output}'")
    alone, groups = _grouped(runs)
    found = compare_runs(alone, groups)
    print(versus_text(found), end="")
    if output is not None:
        write_versus(found, output)
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


@app.command()
def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files (PNG, JPEG, ...).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a CSV here instead of printing it.")
    ] = None,
    calibrated: Annotated[
        bool,
        typer.Option(
            "--calibrated",
            help="Give calibrated probabilities: scaled by the temperatures in RUN/calibration.json, which were fitted "
            "on the run's validation images; a class without a temperature stays as it is, with a note. "
            "Without this option: as the model gives them.",
        ),
    ] = False,
) -> None:
    """Print the probability of every class for each image, as CSV."""
    from labelassemble.evaluation.choices import CALIBRATION_FILE, read_choices
    from labelassemble.models.predict import predict as predict_probabilities
    from labelassemble.run import load_trained, write_probabilities

    trained = load_trained(run)
    chosen = read_choices(run / CALIBRATION_FILE) if calibrated else None
    paths = [str(image) for image in images]
    probabilities = predict_probabilities(trained.net, paths, trained.views)
    if chosen is not None:
        probabilities = chosen.calibrated(probabilities, trained.net.classes)
        for name in trained.net.classes:
            if chosen.of(name).temperature is None:
                print(
                    f"labelassemble: '{name}' is not scaled: {chosen.of(name).no_temperature}",
                    file=sys.stderr,
                )
    write_probabilities(output, trained.net.classes, paths, probabilities)


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
) -> None:
    """Draw where in each image the model finds evidence for a class (Grad-CAM); no proof of reasoning."""
    from labelassemble.explain.images import write_heat_maps
    from labelassemble.explain.overlay import NO_PROOF
    from labelassemble.run import load_trained

    trained = load_trained(run)
    chosen = trained.interest if classes is None else [name.strip() for name in classes.split(",")]
    write_heat_maps(
        trained.net,
        [str(image) for image in images],
        trained.views,
        output,
        names=trained.net.classes,
        chosen=chosen,
        wrote=print,
    )
    print(NO_PROOF)


@app.command()
def assemble(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the table here, as .csv or .parquet.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw who labels what, as .svg or .png.", dir_okay=False)
    ] = None,
    check_images: Annotated[
        bool, typer.Option("--check-images", help="Decode every image and name each that cannot be read.")
    ] = False,
) -> None:
    """Print what the sources label, and write the one table made of them; nothing is trained."""
    from labelassemble.config import load_config
    from labelassemble.data import check_images as check
    from labelassemble.data import missing_files
    from labelassemble.data.coverage import coverage_figure
    from labelassemble.run import assemble_config, image_progress

    if picture is not None and picture.suffix not in (".svg", ".png"):
        raise LabelAssembleError(f"--picture must end in .svg or .png, got '{picture}'")
    settings = load_config(config, overrides or [])
    console = Console()
    assembly = assemble_config(settings, console)
    print(assembly.report.to_text())
    missing = missing_files(assembly.table.paths)
    if missing:
        print(f"{len(missing)} files do not exist, the first: {missing[0]}\n")
    if output is not None:
        assembly.table.write(output)
        print(f"Table: {output}")
    if picture is not None:
        data = coverage_figure(assembly.report.coverage, format="svg" if picture.suffix == ".svg" else "png")
        try:
            picture.write_bytes(data)
        except OSError as error:
            raise LabelAssembleError(f"{picture}: cannot be written ({error.strerror})") from error
        print(f"Picture: {picture}")
    if check_images:
        with image_progress(console, "reading images") as advance:
            found = check(assembly.table, workers=settings.views.decoders(), progress=advance)
        print(found.to_text(), end="")
        if found.bad:
            raise typer.Exit(2)


@app.command()
def views(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration.")],
    image: Annotated[Path, typer.Option("--image", help="The image to show views of.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.", dir_okay=False)],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    count: Annotated[int, typer.Option(min=1, max=24, help="Views of each kind.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the views.")] = 0,
) -> None:
    """Draw what the network sees of one image: the evaluated view, and weak and strong ones."""
    from labelassemble.config import load_config
    from labelassemble.views.picture import write_picture_of_views

    settings = load_config(config, overrides or [])
    write_picture_of_views(str(image), settings.views, output, count=count, seed=seed)
    print(f"Picture: {output}")


@app.command()
def export(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder to write; default: RUN/model.pt (.pt2, .onnx), or RUN/model_repository.",
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help="torchscript (any libtorch), pt2 (compiled by AOTInductor for this kind of processor), onnx, or "
            "triton (a model repository)."
        ),
    ] = "torchscript",
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 (quicker, less exact).")] = "float32",
    queries: Annotated[
        bool, typer.Option("--queries", help="Keep the queries, so that a request may ask for some classes.")
    ] = False,
    dali: Annotated[
        bool, typer.Option("--dali", help="With triton: decode JPEG and PNG by DALI in front of the network.")
    ] = False,
    specificity: Annotated[
        float, typer.Option(help="Operating point of the thresholds in RUN/calibration.json.")
    ] = 0.95,
) -> None:
    """Write the best checkpoint for a server without Python, compared with Python on real images."""
    from labelassemble.export.formats import check_choice
    from labelassemble.run import export_run

    summary = export_run(
        run,
        output,
        format=check_choice(format),
        precision=precision,  # type: ignore[arg-type]  # checked where it is used
        queries=queries,
        dali=dali,
        specificity=specificity,
    )
    print(summary)


@app.command()
def experiment(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="figure-1a, figure-1c, table-1, covid-few-labels, ablations or pseudo-labels, or a YAML file of "
            "one's own.",
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="e.g. train.epochs=64 views.size=224")
    ] = None,
    data: Annotated[Path, typer.Option("--data", help="Folder with the datasets.", file_okay=False)] = Path(
        "data"
    ),
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the results; default: runs/experiments/NAME."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many seeds, instead of the experiment's.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="MINUTES", help="Start no run that would not end in time."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="SETTING", help="Run this setting; may be repeated.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(min=1, help="Trainings side by side; small networks on a CPU: one a core is quickest."),
    ] = 1,
) -> None:
    """Run one of the paper's experiments: every seed is saved when it is done, and the same command goes on."""
    from labelassemble.experiments.runner import missing_text, run_experiment
    from labelassemble.experiments.settings import load_experiment

    settings = load_experiment(name, overrides or [])
    folder = output or Path("runs") / "experiments" / Path(name).stem
    console = Console()
    with _interruptible("the same command goes on from there"):
        report = run_experiment(
            settings,
            folder,
            data=data,
            console=console,
            seeds=seeds,
            budget=budget,
            only=only or (),
            workers=workers,
        )
    if report.missing:
        print(f"The budget ended before {len(report.missing)} runs:\n{missing_text(report.missing)}")
    for file in report.files:
        if file.name in ("table.md", "figure.svg"):
            print(f"{'Table' if file.suffix == '.md' else 'Figure'}: {file}")


@app.command(
    add_help_option=False,  # --help is the server's own
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def serve(context: typer.Context) -> None:
    """Serve exported models over HTTP, without Python: labelassemble serve --model-repository DIR."""
    from labelassemble.export.program import run_server

    run_server(context.args)


@contextmanager
def _interruptible(how: str, *, say: bool = True) -> Iterator[None]:
    """Turn a Ctrl-C into a sentence that says how to go on, and exit status 130."""
    from labelassemble.training.distributed import OtherProcessFailed
    from labelassemble.training.interrupt import TrainingInterrupted

    try:
        yield
    except OtherProcessFailed:  # which says what went wrong
        raise typer.Exit(2) from None
    except TrainingInterrupted as stop:
        if say:
            print(f"\nStopped in epoch {stop.epoch + 1} after step {stop.step}; {how}", file=sys.stderr)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        print(f"\nStopped at once; {how}", file=sys.stderr)
        raise typer.Exit(130) from None
