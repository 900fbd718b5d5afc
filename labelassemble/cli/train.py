"""Commands that train: the demo, a configuration, the paper's experiments."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from labelassemble.cli.app import app, interruptible
from labelassemble.errors import LabelAssembleError


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to leave everything in.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first (or only) repetition.")] = 0,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, help="Repeat with this many seeds; the default takes about two minutes on two busy cores."
        ),
    ] = 4,
    clinic_images: Annotated[
        int, typer.Option(help="Images that the clinic trains on, a third of them eights; 3 to 300.")
    ] = 15,
    overwrite: Annotated[bool, typer.Option(help="Remove an earlier demo in the folder first.")] = False,
) -> None:
    """Train on handwritten digits from three sources that label different digits, and say what each part brings."""
    import shutil

    from labelassemble.experiments.demo import run_demo

    if output.is_dir() and any(output.iterdir()):
        if not overwrite:
            raise LabelAssembleError(
                f"{output} is not empty: add --overwrite, or choose another folder with --output"
            )
        if not (output / "demo.yaml").exists() and not list(output.glob("seed-*/demo.yaml")):
            raise LabelAssembleError(f"{output} holds something else than a demo, so it is not overwritten")
        shutil.rmtree(output)
    with interruptible("labelassemble demo --overwrite begins anew"):
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
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", min=1, metavar="N", help="Train in N processes of this machine, one a GPU, say."
        ),
    ] = None,
) -> None:
    """Assemble the sources, train, evaluate, and leave a run's folder with a report.

    On several processes or GPUs of this machine: --processes N; on several machines: torchrun ... -m labelassemble
    train CONFIG. They share the images of train.batch_size, so the learning curve is that of one process.
    """
    from labelassemble.config import load_config
    from labelassemble.report.detection_text import detection_text
    from labelassemble.report.format import plural
    from labelassemble.report.text import evaluation_text
    from labelassemble.run import train_run
    from labelassemble.training.distributed import joined

    run = output
    if resume and not config.exists() and not config.suffix:
        raise LabelAssembleError(f"{config} holds no run: the folder does not exist")
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
    settings = load_config(config, overrides or [])  # before processes are started: a mistake is said once
    if processes is not None and processes > 1:
        from labelassemble.training.launch import launch

        if status := launch(_without_processes(sys.argv[1:]), processes):
            raise typer.Exit(status)
        return
    console = Console()
    how = f"go on with: labelassemble train {run} --resume"
    with joined() as joint, interruptible(how, say=joint.first):
        if resume:
            joint.together(lambda: _check_resumable(run))
        result = train_run(
            settings, run, resume=resume, console=console, start_from=start_from, processes=joint
        )
    if not joint.first:
        return
    if result.evaluation is not None:
        text = (
            evaluation_text(result.evaluation)
            if result.detection is None
            else detection_text(result.detection)
        )
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    outcome = result.outcome
    why = " (the validation loss no longer fell)" if outcome.early else ""
    console.print(
        f"{plural(outcome.epochs, 'epoch')}{why} in {outcome.seconds:.0f} s, best: epoch {outcome.best_epoch}\n"
        f"Report: {run / 'report.html'}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _without_processes(words: list[str]) -> list[str]:
    """Return the command line without the option --processes."""
    kept, rest = [], iter(words)
    for word in rest:
        if word == "--processes":
            next(rest, None)
        elif not word.startswith("--processes="):
            kept.append(word)
    return kept


def _check_resumable(run: Path) -> None:
    if not (run / "config.yaml").exists():
        raise LabelAssembleError(
            f"{run} holds no run that could be resumed ({run / 'config.yaml'} does not exist): leave --resume out to "
            "begin it, or name its folder with --output"
        )


@app.command()
def experiment(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="figure-1a, figure-1c, table-1, covid-few-labels, ablations or pseudo-labels; few-positives, "
            "few-positives-nih, figure-1c-converged, table-1-skin or covid-assumed; detection; or a YAML file of one's "
            "own.",
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
    from labelassemble.experiments.experiment import load_experiment
    from labelassemble.experiments.runner import missing_text, run_experiment

    settings = load_experiment(name, overrides or [])
    folder = output or Path("runs") / "experiments" / Path(name).stem
    console = Console()
    with interruptible("the same command goes on from there"):
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
    if over := [job for job in report.missing if job not in report.killed]:
        print(f"The budget ended before {len(over)} runs:\n{missing_text(over)}")
    for file in report.files:
        if file.name in ("table.md", "figure.svg"):
            print(f"{'Table' if file.suffix == '.md' else 'Figure'}: {file}")
    if report.killed:
        raise LabelAssembleError(
            f"the process of {len(report.killed)} runs was killed (for its memory?): the same command does them again, "
            f"with less --workers if need be:\n{missing_text(report.killed)}"
        )
