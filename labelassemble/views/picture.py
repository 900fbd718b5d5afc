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
from labelassemble.views.draws import StrongDraws, WeakDraws, draw_views
from labelassemble.views.noise import NoiseBank
from labelassemble.views.policy import StrongOptions, ViewOptions, WeakOptions
from labelassemble.views.preprocess import resize, to_unit_range

_CELL = 1.9  # inches


def picture_of_views(image: str, options: ViewOptions, *, count: int = 6, seed: int = 0) -> bytes:
    """Return a PNG: the image and its evaluated view, then `count` weak and `count` strong views of it.

    Below each view stands whether it is mirrored, and by how many degrees it is turned which way.

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
    weak = weak_view(images, options.weak, weak_draws, bank)
    strong = strong_view(images, options.strong, strong_draws, bank)
    rows = (
        (f"weak: {_strengths(options.weak)}", weak, placings(weak_draws)),
        (f"strong: {_strengths(options.strong)}", strong, placings(strong_draws)),
    )
    titles = [textwrap.fill(title, 28 * count) for title, _, _ in rows]
    between = 0.15 + 0.085 * (
        titles[1].count("\n") + 1
    )  # of a cell: the words below one row and above the next
    figure = Figure(figsize=(_CELL * (count + 1.3), _CELL * (2.43 + between)), dpi=120)
    cells = figure.subplot_mosaic(
        [
            ["file", *(f"0-{index}" for index in range(count))],
            ["view", *(f"1-{index}" for index in range(count))],
        ],
        gridspec_kw={
            "left": 0.01,
            "right": 0.99,
            "top": 0.92,
            "bottom": 0.05,
            "wspace": 0.04,
            "hspace": between,
        },
    )
    for axes in cells.values():
        axes.axis("off")
        axes.set_anchor("N")  # an oblong file begins at the height of the views
    height, width = pixels.shape[2:]
    _show(cells["file"], to_unit_range(pixels, options.channels)[0], f"file, {width} x {height}")
    _show(cells["view"], fitted[0], f"evaluated, {options.size} x {options.size}")
    for row, (_, views, words) in enumerate(rows):
        for index, (view, placing) in enumerate(zip(views, words, strict=True)):
            axes = cells[f"{row}-{index}"]
            _show(axes, view, None)
            axes.text(0, -0.02, placing, fontsize=7, color="0.35", va="top", transform=axes.transAxes)
        cells[f"{row}-0"].set_title(titles[row], fontsize=8, loc="left")
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


def placings(draws: WeakDraws | StrongDraws) -> list[str]:
    """Return how each view lies, in words: "mirrored, ↺ 4°" is flipped left to right, then turned counter-clockwise."""
    texts = []
    for mirrored, degrees in zip(
        draws.mirrored.tolist(), draws.radians.rad2deg().round().tolist(), strict=True
    ):
        turned = f"{'↺' if degrees > 0 else '↻'} {abs(degrees):.0f}°" if degrees else ""
        texts.append(", ".join(filter(None, ("mirrored" if mirrored else "", turned))))
    return texts


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
