"""A picture of the policy: what the network sees of one image."""

import io
import textwrap
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from labelassemble.errors import LabelAssembleError
from labelassemble.views.augment import strong_view, weak_view
from labelassemble.views.decode import decode
from labelassemble.views.draws import draw_views
from labelassemble.views.noise import NoiseBank
from labelassemble.views.policy import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.preprocess import resize, to_unit_range

_CELL = 1.9  # inches


def picture_of_views(image: str, options: ViewOptions, *, count: int = 6, seed: int = 0) -> bytes:
    """Return a PNG: the image and its evaluated view, then `count` weak and `count` strong views of it.

    The views are those that epochs 0, 1, ... of a training with this seed would see, were it the first of its images.

    Args:
        image: a file, or `container::member`.
        options: the policy.
        count: views of each kind, at least one.
        seed: of the views.

    Raises:
        ImageError: a file that cannot be read.
    """
    if count < 1:
        raise LabelAssembleError(f"a picture needs at least one view of each kind, got {count}")
    pixels = torch.tensor(decode(image))[None]
    fitted = resize(to_unit_range(pixels, options.channels), options.size)
    weak_draws, strong_draws = draw_views(options, seed=seed, passes=range(count), rows=[0] * count)
    bank = NoiseBank(seed, options.channels * options.size**2)
    images = fitted.expand(count, -1, -1, -1)
    rows = (
        (f"weak: {_strengths(options.weak)}", weak_view(images, options.weak, weak_draws, bank)),
        (f"strong: {_strengths(options.strong)}", strong_view(images, options.strong, strong_draws, bank)),
    )
    figure = Figure(figsize=(_CELL * (count + 1.3), _CELL * 2.7), dpi=120)
    cells = figure.subplot_mosaic(
        [
            ["file", *(f"0-{index}" for index in range(count))],
            ["view", *(f"1-{index}" for index in range(count))],
        ],
        gridspec_kw={
            "left": 0.01,
            "right": 0.99,
            "top": 0.91,
            "bottom": 0.02,
            "wspace": 0.04,
            "hspace": 0.25,
        },
    )
    for axes in cells.values():
        axes.axis("off")
    height, width = pixels.shape[2:]
    _show(cells["file"], to_unit_range(pixels, options.channels)[0], f"file, {width} x {height}")
    _show(cells["view"], fitted[0], f"evaluated, {options.size} x {options.size}")
    for row, (title, views) in enumerate(rows):
        for index, view in enumerate(views):
            _show(cells[f"{row}-{index}"], view, None)
        cells[f"{row}-0"].set_title(textwrap.fill(title, 28 * count), fontsize=8, loc="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def write_picture_of_views(
    image: str, options: ViewOptions, output: Path, *, count: int = 6, seed: int = 0
) -> None:
    """Write what `picture_of_views` returns to a file.

    Raises:
        ImageError: a file that cannot be read.
        LabelAssembleError: the output cannot be written.
    """
    picture = picture_of_views(image, options, count=count, seed=seed)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(picture)
    except OSError as error:
        raise LabelAssembleError(f"{output}: cannot be written ({error.strerror or error})") from None


def _show(axes: Axes, image: Tensor, title: str | None) -> None:
    if len(image) == 1:
        axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(image.permute(1, 2, 0).numpy())
    if title is not None:
        axes.set_title(title, fontsize=8, loc="left")


def _strengths(options: WeakOptions | StrongOptions) -> str:
    """Return every number of a policy in words, but those of what it does not do."""
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
