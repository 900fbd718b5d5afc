"""Image files explained: a PNG of heat maps for each."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from labelassemble._files import atomic_path, make_folder
from labelassemble.data.decoding import split_reference
from labelassemble.data.output_names import named_after
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.explain.gradcam import heat_maps
from labelassemble.explain.overlay import Shown, heat_figure, view_pixels
from labelassemble.views.options import ViewOptions
from labelassemble.views.torch_backend import evaluation_batches


def explained(
    net: nn.Module, paths: Sequence[str], views: ViewOptions, names: Sequence[str], columns: Sequence[int]
) -> list[tuple[NDArray[np.uint8], list[Shown]]]:
    """Return for each file the pixels of its evaluated view [H, W, 3], and the heat map of each class.

    Args:
        net: as for `heat_maps`, in eval mode.
        paths: the files.
        views: the deterministic view.
        names: of all C classes.
        columns: of the classes to explain.

    Raises:
        ImageError: a file that cannot be read.
        LabelAssembleError: a network without a feature map, or an answer that is not finite.
    """
    device = next(net.parameters()).device
    found = []
    for batch in evaluation_batches(paths, views, batch_size=16):
        files = [paths[row] for row in batch.rows.tolist()]
        heat = heat_maps(net, batch.images.to(device), list(columns), files=files)
        for index in range(len(batch.images)):
            shown = [
                Shown(
                    names[column], float(heat.probabilities[index, column]), heat.maps[index, place].numpy()
                )
                for place, column in enumerate(columns)
            ]
            found.append((view_pixels(batch.images[index], views.mean, views.std), shown))
    return found


class Drawn(NamedTuple):
    """An image of which heat maps were drawn.

    Attributes:
        file: the PNG.
        path: of the image.
        pixels: of its evaluated view, uint8 [H, W, 3].
        shown: the heat map of each class.
    """

    file: Path
    path: str
    pixels: NDArray[np.uint8]
    shown: list[Shown]


def write_heat_maps(
    net: nn.Module,
    paths: Sequence[str],
    views: ViewOptions,
    output: Path,
    *,
    names: Sequence[str],
    chosen: Sequence[str],
    answered: Callable[[str, float], float] = lambda _, probability: probability,
) -> Iterator[Drawn]:
    """Write a PNG a file into `output`, named after the file, and yield what was drawn, one after the other.

    Args:
        net: in eval mode.
        paths: the files.
        views: the deterministic view.
        output: the folder; made if need be.
        names: of all C classes.
        chosen: those to explain.
        answered: the probability to show for a class's name and the network's probability, by calibration.

    Raises:
        ImageError: a file that cannot be read.
        LabelAssembleError: a class that the network does not know, or a file that cannot be written.
    """
    for name in chosen:
        if name not in names:
            raise LabelAssembleError(f"the model has no class '{name}'{did_you_mean(name, names)}")
    columns = [list(names).index(name) for name in chosen]
    targets = named_after(paths, output, ".png")
    make_folder(output)
    for path, target in zip(paths, targets, strict=True):
        with torch.no_grad():
            [(pixels, found)] = explained(net, [path], views, names, columns)
        shown = [Shown(item.name, answered(item.name, item.probability), item.heat) for item in found]
        with atomic_path(target) as file:
            file.write_bytes(heat_figure(Path(split_reference(path)[0]).name, pixels, shown))
        yield Drawn(target, path, pixels, shown)
