"""A plot of the crops of one case, in both views, with what is known of their voxels."""

import io
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labelassemble._figures import names_as_written
from labelassemble._files import writing
from labelassemble.data import Table
from labelassemble.data.exclusion import Exclusions
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.views.batch import Batch
from labelassemble.views.sampler import Sampler
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import VolumeViews

_CELL = 1.9  # inches
_COLOURS = ("#e6550d", "#3182bd", "#31a354", "#756bb1", "#d6b616", "#17becf", "#e377c2", "#8c564b")


def find_case(table: Table, image: str | None) -> int:
    """Return the row of a case by its path or its name; without one, the first that is drawn in the most classes.

    Raises:
        LabelAssembleError: No case is called so.
    """
    if image is None:
        drawn = [len(table.drawn(row)) * (table.labels[row] == 1).any() for row in range(len(table))]
        return int(np.argmax(drawn))
    path = str(Path(image).absolute())
    rows = np.flatnonzero((table.paths == path) | (table.paths == image) | (table.names == image))
    if not len(rows):
        raise LabelAssembleError(
            f"--image: no case has the path or the name '{image}'{did_you_mean(image, table.names.tolist())}"
        )
    return int(rows[0])


@names_as_written()
def plot_crops(
    table: Table,
    row: int,
    options: VolumeOptions,
    *,
    exclusions: Exclusions | None = None,
    count: int = 6,
    seed: int = 0,
) -> bytes:
    """Return a PNG: `count` crops of a case in the weak and in the strong view, and what is known of their voxels.

    The crops are those that epochs 0, 1, ... of a training with this seed would use, were it the first of its cases. Of
    a volume the slice through the middle of the crop is shown, or the one that shows most of what is drawn.

    Args:
        table: the cases.
        row: which of them.
        options: grid, crops and augmentation.
        exclusions: which classes exclude each other in a voxel, for each row of the table.
        count: crops, at least one.
        seed: of the crops.

    Raises:
        LabelAssembleError: the case cannot be read.
    """
    one = options.model_copy(update={"crops_per_case": 1, "bad_files": "stop", "cache_mb": 4096})
    held = None if exclusions is None else exclusions.select(np.array([row]))
    views = VolumeViews(table.select([row]), one, Sampler(1, batch_size=1, seed=seed), exclusions=held)
    batches = [next(iter(views.epoch(epoch, strong=True))) for epoch in range(count)]
    figure = _figure(batches, table, row)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def write_crops_plot(
    table: Table,
    image: str | None,
    options: VolumeOptions,
    output: Path,
    *,
    exclusions: Exclusions | None = None,
    count: int = 6,
    seed: int = 0,
) -> None:
    """Write what `plot_crops` returns to a file; `image` as for `find_case`.

    Raises:
        LabelAssembleError: no such case, it cannot be read, or the output cannot be written.
    """
    row = find_case(table, image)
    plot = plot_crops(table, row, options, exclusions=exclusions, count=count, seed=seed)
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(plot)


def _figure(batches: list[Batch], table: Table, row: int) -> Figure:
    count = len(batches)
    figure = Figure(figsize=(_CELL * count + 0.3, _CELL * 3 + 1.2), dpi=120)
    margins = {"left": 0.01, "right": 0.99, "top": 0.9, "bottom": 0.09, "wspace": 0.04, "hspace": 0.12}
    cells = figure.subplots(3, count, squeeze=False, gridspec_kw=margins)
    unknown = np.zeros(len(table.classes), dtype=np.bool_)
    for column, batch in enumerate(batches):
        targets = batch.targets[0].numpy()
        unknown |= np.isnan(targets).reshape(len(targets), -1).any(axis=1)
        shown, *planes = _planes(batch.weak[0, 0].numpy(), _strong(batch), targets)
        for line, (title, plane) in enumerate(
            zip(("weak view", "strong view", "known voxels"), planes, strict=True)
        ):
            axes = cells[line, column]
            axes.axis("off")
            if line < 2:
                axes.imshow(plane, cmap="gray", vmin=0, vmax=1, origin=shown)
            else:
                axes.imshow(_coloured(plane), origin=shown, interpolation="nearest")
            if column == 0:
                axes.set_title(title, fontsize=8, loc="left")
    figure.text(0.01, 0.965, f"{table.names[row]}, source {table.sources[row]}", fontsize=9)
    for index, name in enumerate(table.classes):
        word = f"{name} (unknown where grey)" if unknown[index] else name
        left = 0.01 + index / len(table.classes)
        figure.text(left, 0.02, f"■ {word}", fontsize=8, color=_COLOURS[index % len(_COLOURS)])
    return figure


def _strong(batch: Batch) -> NDArray[np.float32]:
    assert batch.strong is not None  # asked for
    strong: NDArray[np.float32] = batch.strong[0, 0].numpy()
    return strong


def _planes(
    weak: NDArray[np.float32], strong: NDArray[np.float32], targets: NDArray[np.float32]
) -> tuple[str, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return where the first row is drawn, and of each array what is drawn, targets as [C, H, W]."""
    if weak.ndim == 2:
        return "upper", weak, strong, targets
    drawn = (targets == 1).any(axis=0).sum(axis=(0, 1))
    level = int(drawn.argmax()) if drawn.any() else weak.shape[2] // 2
    # to the right of the patient on the right, front on top
    return "lower", weak[:, :, level].T, strong[:, :, level].T, targets[..., level].transpose(0, 2, 1)


def _coloured(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image [H, W, 3] of targets [C, H, W]: a colour a class, black where all are absent, grey if unknown."""
    image = np.zeros((*targets.shape[1:], 3), dtype=np.float32)
    image[np.isnan(targets).any(axis=0)] = 0.35
    for index, target in enumerate(targets):
        image[target == 1] = to_rgb(_COLOURS[index % len(_COLOURS)])
    return image
