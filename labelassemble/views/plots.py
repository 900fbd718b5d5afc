"""A plot of the views of one image."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from labelassemble.errors import LabelAssembleError
from labelassemble.views.augmentation_list import AugmentationList, list_text
from labelassemble.views.decode import decode
from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.params import StrongParams, WeakParams
from labelassemble.views.preprocess import resize, to_unit_range
from labelassemble.views.view_pair import ViewMaker

_CELL = 1.9  # inches


def plot_views(image: str, options: ViewOptions, *, count: int = 6, seed: int = 0) -> bytes:
    """Return a PNG: the image and its evaluated view, then `count` weak and `count` strong views of it.

    Below each view of the built-in policy stands whether it is mirrored, and by how many degrees it is turned.

    The views are those that epochs 0, 1, ... of a training with this seed would use, were it the first of its images.

    Args:
        image: a file, or `container::member`.
        options: size, channels and augmentation.
        count: views of each kind, at least one.
        seed: of the views.

    Raises:
        ImageError: a file that cannot be read.
    """
    if count < 1:
        raise LabelAssembleError(f"a plot needs at least one view of each kind, got {count}")
    pixels = torch.tensor(decode(image))[None]
    fitted = resize(to_unit_range(pixels, options.channels), options.size)
    images = fitted.expand(count, -1, -1, -1)
    pair = ViewMaker(options, seed).pair(images, passes=range(count), rows=[0] * count, strong=True)
    assert pair.strong is not None
    views = [
        _Row(f"weak: {_strengths(options.weak)}", pair.weak, _captions(pair.params.weak, count)),
        _Row(f"strong: {_strengths(options.strong)}", pair.strong, _captions(pair.params.strong, count)),
    ]
    figure = _figure(to_unit_range(pixels, options.channels)[0], fitted[0], views)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def write_views_plot(
    image: str, options: ViewOptions, output: Path, *, count: int = 6, seed: int = 0
) -> None:
    """Write what `plot_views` returns to a file.

    Raises:
        ImageError: a file that cannot be read.
        LabelAssembleError: the output cannot be written.
    """
    plot = plot_views(image, options, count=count, seed=seed)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(plot)
    except OSError as error:
        raise LabelAssembleError(f"{output}: cannot be written ({error.strerror or error})") from None


class _Row(NamedTuple):
    title: str
    views: Tensor  # [B, C, H, W]
    captions: list[str]


def _figure(file: Tensor, evaluated: Tensor, rows: Sequence[_Row]) -> Figure:
    """Return the image and its evaluated view in the first column, and a row for each kind of view."""
    count = len(rows[0].views)
    titles = [textwrap.fill(row.title, 28 * count) for row in rows]
    between = 0.15 + 0.085 * (titles[1].count("\n") + 1)  # of a cell: captions and the title of the next row
    figure = Figure(figsize=(_CELL * (count + 1.3), _CELL * (2.43 + between)), dpi=120)
    margins = {"left": 0.01, "right": 0.99, "top": 0.92, "bottom": 0.05, "wspace": 0.04, "hspace": between}
    cells = figure.subplots(2, count + 1, gridspec_kw=margins)
    for axes in cells.flat:
        axes.axis("off")
        axes.set_anchor("N")  # an oblong file begins at the height of the views
    _show(cells[0, 0], file, f"file, {file.shape[2]} x {file.shape[1]}")
    _show(cells[1, 0], evaluated, f"evaluated, {evaluated.shape[2]} x {evaluated.shape[1]}")
    for row, title, line in zip(rows, titles, cells[:, 1:], strict=True):
        for axes, view, caption in zip(line, row.views, row.captions, strict=True):
            _show(axes, view, None)
            axes.text(0, -0.02, caption, fontsize=7, color="0.35", va="top", transform=axes.transAxes)
        line[0].set_title(title, fontsize=8, loc="left")
    return figure


def _show(axes: Axes, image: Tensor, title: str | None) -> None:
    if len(image) == 1:
        axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(image.permute(1, 2, 0).numpy())
    if title is not None:
        axes.set_title(title, fontsize=8, loc="left")


def _captions(params: WeakParams | StrongParams | None, count: int) -> list[str]:
    return [""] * count if params is None else describe_geometry(params)


def describe_geometry(params: WeakParams | StrongParams) -> list[str]:
    """Return the geometry of each view: "mirrored, ↺ 4°" is flipped left to right, then turned counter-clockwise."""
    texts = []
    for mirrored, degrees in zip(
        params.mirrored.tolist(), params.radians.rad2deg().round().tolist(), strict=True
    ):
        turned = f"{'↺' if degrees > 0 else '↻'} {abs(degrees):.0f}°" if degrees else ""
        texts.append(", ".join(filter(None, ("mirrored" if mirrored else "", turned))))
    return texts


def _strengths(options: WeakOptions | StrongOptions | AugmentationList) -> str:
    """Return the options of a view in words."""
    if isinstance(options, tuple):
        return list_text(options)
    parts = [f"flip {options.flip:g}" if options.flip else "no flip", f"rotate ±{options.rotate:g}°"]
    if isinstance(options, StrongOptions):
        parts += [
            f"brightness ±{options.brightness:g}",
            f"contrast ±{options.contrast:g}",
            f"saturation ±{options.saturation:g}",
            f"noise {options.noise:g}",
            f"salt and pepper {options.salt_pepper:g}",
            f"erase {options.erase:g} of {options.erase_area[0]:g} to {options.erase_area[1]:g}",
        ]
    else:
        parts.append(f"noise {options.noise:g}")
    return ", ".join(parts)
