"""The command line."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as RichTable

from labelassemble.errors import LabelAssembleError

app = typer.Typer(
    name="labelassemble",
    help="Learn one model from datasets that label different things.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
) -> None:
    """Assemble the sources, train, evaluate, and leave a run's folder with a report."""
    from labelassemble.config import load_config
    from labelassemble.run import train_run

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
    with _interruptible(f"go on with: labelassemble train {run} --resume"):
        result = train_run(settings, run, resume=resume, console=console)
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
def evaluate(run: Run) -> None:
    """Predict a run's held-out images anew with its best checkpoint, evaluate, and rewrite the report."""
    from labelassemble.run import evaluate_run

    evaluation = evaluate_run(run)
    if evaluation is None:
        print(f"{run} has no test images, so there is nothing to evaluate.")
    else:
        print(evaluation.to_text())
    print(f"Report: {run / 'report.html'}")


@app.command()
def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files (PNG, JPEG, ...).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a CSV here instead of printing it.")
    ] = None,
) -> None:
    """Print the probability of every class for each image, as CSV."""
    from labelassemble.models.predict import predict as predict_probabilities
    from labelassemble.run import load_trained, write_probabilities

    trained = load_trained(run)
    paths = [str(image) for image in images]
    probabilities = predict_probabilities(trained.net, paths, trained.views)
    write_probabilities(output, trained.net.classes, paths, probabilities)


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
        Path | None, typer.Option("--output", "-o", help="File to write; default: RUN/model.pt.")
    ] = None,
) -> None:
    """Write the best checkpoint as TorchScript that any libtorch loads, compared with Python on real images."""
    from labelassemble.run import export_run

    print(export_run(run, output))


@app.command(
    add_help_option=False,  # --help is the server's own
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def serve(context: typer.Context) -> None:
    """Serve exported models over HTTP, without Python: labelassemble serve --model-repository DIR."""
    from labelassemble.export.program import run_server

    run_server(context.args)


@contextmanager
def _interruptible(how: str) -> Iterator[None]:
    """Turn a Ctrl-C into a sentence that says how to go on, and exit status 130."""
    from labelassemble.training.interrupt import TrainingInterrupted

    try:
        yield
    except TrainingInterrupted as stop:
        print(f"\nStopped in epoch {stop.epoch + 1} after step {stop.step}; {how}", file=sys.stderr)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        print(f"\nStopped at once; {how}", file=sys.stderr)
        raise typer.Exit(130) from None
