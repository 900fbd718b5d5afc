"""Commands towards a server without Python: the export, and the server itself."""

from pathlib import Path
from typing import Annotated

import typer

from labelassemble.cli.app import Run, app
from labelassemble.errors import LabelAssembleError


@app.command()
def export(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder to write; default: RUN/model.pt (.pt2, .onnx), RUN/model_repository or RUN/hub.",
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help="torchscript (any libtorch), pt2 (compiled by AOTInductor for this kind of processor), onnx, "
            "triton (a model repository), or hub (a folder for the Hugging Face hub)."
        ),
    ] = "torchscript",
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 (quicker, less exact).")] = "float32",
    queries: Annotated[
        bool, typer.Option("--queries", help="Keep the queries, so that a request may ask for some classes.")
    ] = False,
    dali: Annotated[
        bool, typer.Option("--dali", help="With triton: decode JPEG and PNG by DALI in front of the network.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            help="With triton: of the model; default: as in RUN/model_repository, or else as the run's folder."
        ),
    ] = None,
    model_format: Annotated[
        str | None,
        typer.Option(
            help="With triton: torchscript, pt2 or onnx (which Triton serves and labelassemble-serve does not); "
            "default: torchscript.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(
            help="With triton: write this version and leave the others; default: replace the model."
        ),
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            help="With triton: images of a batch; default: 16, with --version what the model has.",
            show_default=False,
        ),
    ] = None,
    queue_delay_us: Annotated[
        int | None,
        typer.Option(
            help="With triton: microseconds that a request may wait for others; default: 2000, or likewise.",
            show_default=False,
        ),
    ] = None,
    specificity: Annotated[
        float | None,
        typer.Option(
            help="Operating point of the thresholds; default: that of RUN/calibration.json.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the best checkpoint for a server without Python, compared with Python on real images.

    Of a run on volumes: the network of a patch for labelassemble-serve, labelassemble-predict and C++ programs, as
    torchscript, pt2 or triton.
    """
    from labelassemble.export.formats import check_choice
    from labelassemble.export.model_files import check_model_format
    from labelassemble.export.repository import RepositoryOptions
    from labelassemble.run import export_run
    from labelassemble.run.folder import learns_from_masks

    if learns_from_masks(run):
        of_images = (
            queries,
            dali,
            model_format,
            version,
            max_batch,
            queue_delay_us,
            precision != "float32",
        )
        if any(of_images):
            raise LabelAssembleError(
                f"{run} is a run on volumes: of the options, --output, --format, --name and --specificity go with it"
            )
        _export_volumes(run, output, format, name, specificity)
        return
    said = {
        "version": version,
        "max_batch": max_batch,
        "queue_delay_us": queue_delay_us,
        "dali": dali or None,
        "model_format": check_model_format(model_format) if model_format is not None else None,
    }
    given = {key: value for key, value in said.items() if value is not None}
    options = RepositoryOptions(**given) if given else None  # type: ignore[arg-type]
    summary = export_run(
        run,
        output,
        format=check_choice(format),
        precision=precision,  # type: ignore[arg-type]  # checked where it is used
        queries=queries,
        name=name,
        repository=options,
        specificity=specificity,
    )
    print(summary)


def _export_volumes(
    run: Path, output: Path | None, format: str, name: str | None, specificity: float | None
) -> None:
    from labelassemble.run.export_volumes import export_volume_run

    print(export_volume_run(run, output, format=format, name=name, specificity=specificity))


@app.command(
    add_help_option=False,  # --help is the server's own
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)
def serve(context: typer.Context) -> None:
    """Serve exported models over HTTP, without Python: labelassemble serve --model-repository DIR."""
    from labelassemble.export.native import run_server

    run_server(context.args)
