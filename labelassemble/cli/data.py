"""Commands that look at data and train nothing: the assembled table, the views of an image."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from labelassemble._files import writing
from labelassemble.cli.app import app, check_not_input
from labelassemble.errors import LabelAssembleError


@app.command()
def assemble(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the table here, as .csv, .csv.gz or .parquet."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw who labels what, as .svg or .png.", dir_okay=False)
    ] = None,
    check_images: Annotated[
        bool,
        typer.Option(
            "--check-images", help="Decode every image, volume and mask and name each that cannot be read."
        ),
    ] = False,
) -> None:
    """Print what the sources label, and write the one table made of them; nothing is trained."""
    from labelassemble.config import load_config
    from labelassemble.data import check_images as check
    from labelassemble.data import missing_files, missing_text
    from labelassemble.run.assembly import assemble_config, image_progress

    if picture is not None and picture.suffix not in (".svg", ".png"):
        raise LabelAssembleError(f"--picture must end in .svg or .png, got '{picture}'")
    settings = load_config(config, overrides or [])
    console = Console()
    assembly = assemble_config(settings, console)
    if output is not None:  # before anything is printed: whoever reads the summary may have read enough
        check_not_input(output, [config, *(Path(path) for _, path in assembly.report.files)])
        assembly.table.write(output)
    if picture is not None:
        from labelassemble.data.coverage import coverage_figure  # and with it matplotlib

        data = coverage_figure(assembly.report.coverage, format="svg" if picture.suffix == ".svg" else "png")
        with writing(picture):
            picture.write_bytes(data)
    print(assembly.report.to_text())
    missing = missing_files(assembly.table.paths)
    if missing:
        print(missing_text(assembly.table, missing))
    if output is not None:
        print(f"Table: {output}")
    if picture is not None:
        print(f"Picture: {picture}")
    if check_images:
        with image_progress(console, "reading", settings.noun) as advance:
            if settings.volumes is not None:
                from labelassemble.views.volume_check import check_cases  # and with it torch

                cases = check_cases(assembly.table, settings.volumes, progress=advance)
                text, bad = cases.to_text(), cases.bad
            else:
                images = check(assembly.table, workers=settings.views.decoders(), progress=advance)
                text, bad = images.to_text(), images.bad
        print(text, end="")
        if bad:
            raise typer.Exit(2)


@app.command()
def views(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.", dir_okay=False)],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE")] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            "--image",
            help="The image to show views of; of volumes a case by its path or name, by default one that is drawn.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=24, help="Views of each kind.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the views.")] = 0,
) -> None:
    """Draw what the network sees of one image, or the crops of one case with what is known of their voxels."""
    from labelassemble.config import load_config

    if output.suffix.lower() != ".png":
        raise LabelAssembleError(f"--output must end in .png, got '{output}'")
    settings = load_config(config, overrides or [])
    if settings.volumes is not None:
        from labelassemble.run.assembly import assemble_config
        from labelassemble.views.volume_plot import write_crops_plot

        assembly = assemble_config(settings, Console())
        case = None if image is None else str(image)
        held = assembly.voxel_exclusions
        write_crops_plot(
            assembly.table, case, settings.volumes, output, exclusions=held, count=count, seed=seed
        )
    else:
        from labelassemble.views.plots import write_views_plot

        if image is None:
            raise LabelAssembleError("views: --image must name the image to show views of")
        write_views_plot(str(image), settings.views, output, count=count, seed=seed)
    print(f"Picture: {output}")
