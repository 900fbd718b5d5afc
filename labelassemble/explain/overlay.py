"""Heat maps over the view that the network was given."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from labelassemble._figures import names_as_written

COLOURS: Final = "inferno"
"""A colour map whose lightness rises evenly with the value, so that it also reads in grey."""

NO_PROOF: Final = (
    "A heat map shows where the last feature map speaks for a class, at that map's coarse resolution. It is no proof "
    "of reasoning: a warm spot in the right place does not show that the finding was recognised, nor why."
)


@dataclass(frozen=True, eq=False)
class Shown:
    """A heat map of one class to draw.

    Attributes:
        name: of the class.
        probability: that the network gives it.
        heat: float [h, w], at least 0.
    """

    name: str
    probability: float
    heat: NDArray[np.floating]


def view_pixels(view: Tensor, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.uint8]:
    """Return a normalised view [channels, H, W] as grey or colour pixels uint8 [H, W, 3]."""
    shape = (-1, 1, 1)
    pixels = view.cpu() * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)
    if len(pixels) == 1:
        pixels = pixels.expand(3, -1, -1)
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return pixels [H, W, 3] with the heat over them: opaque where it is largest, clear where it is 0.

    The heat is enlarged bilinearly and taken relative to its largest value; without any, the pixels come back.
    """
    share = _relative(heat, pixels.shape[:2])
    colours = mpl.colormaps[COLOURS](share)[..., :3] * 255
    opacity = 0.75 * share[..., None]
    mixed: NDArray[np.uint8] = np.round(pixels * (1 - opacity) + colours * opacity).astype(np.uint8)
    return mixed


def small_jpeg(pixels: NDArray[np.uint8], *, side: int) -> bytes:
    """Return pixels [H, W, 3] as a JPEG whose longer side is `side` or less."""
    image = Image.fromarray(pixels)
    longer = max(image.size)
    if longer > side:
        size = (round(image.width * side / longer), round(image.height * side / longer))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85, optimize=True)
    return buffer.getvalue()


@names_as_written()
def heat_figure(file: str, pixels: NDArray[np.uint8], shown: Sequence[Shown]) -> bytes:
    """Return a PNG: the view, then the overlay of each class with its probability, a colour bar, the file's name.

    Args:
        file: the name to write above.
        pixels: of the view, uint8 [H, W, 3].
        shown: the classes.
    """
    count = len(shown) + 1
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(2.9 * columns + 0.7, 3.15 * rows + 0.75), layout="constrained", facecolor="white"
    )
    FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    panels[0].imshow(pixels, interpolation="nearest")
    panels[0].set_title("evaluated view", fontsize=10)
    for axes, item in zip(panels[1:], shown, strict=False):
        axes.imshow(overlay(pixels, item.heat), interpolation="nearest")
        nothing = "" if item.heat.max(initial=0) > 0 else "\nnothing speaks for it"
        axes.set_title(f"{item.name}: {item.probability:.3f}{nothing}", fontsize=10)
    for axes in panels:
        axes.set_axis_off()
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), COLOURS), ax=panels.tolist(), fraction=0.03, pad=0.02
    )
    bar.set_label("evidence, relative to the largest in the panel", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(file, fontsize=10, wrap=True)
    figure.supxlabel("Grad-CAM; a heat map is no proof of reasoning", fontsize=8, color="#555555")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _relative(heat: NDArray[np.floating], size: tuple[int, ...]) -> NDArray[np.float64]:
    values = torch.from_numpy(np.ascontiguousarray(heat, np.float64))[None, None]
    larger = F.interpolate(values, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
    most = larger.max(initial=0)
    share: NDArray[np.float64] = larger / most if most > 0 else np.zeros_like(larger)
    return share
