"""Image files explained: a PNG of heat maps for each."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from labelassemble._files import atomic_path, make_folder
from labelassemble.data.decoding import split_reference, stored_file
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


def write_heat_maps(
    net: nn.Module,
    paths: Sequence[str],
    views: ViewOptions,
    output: Path,
    *,
    names: Sequence[str],
    chosen: Sequence[str],
    answered: Callable[[str, float], float] = lambda _, probability: probability,
    wrote: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write a PNG a file into `output`, named after the file, and return where they are.

    Args:
        net: in eval mode.
        paths: the files.
        views: the deterministic view.
        output: the folder; made if need be.
        names: of all C classes.
        chosen: those to explain.
        answered: the probability to show for a class's name and the network's probability, by calibration.
        wrote: called after each.

    Raises:
        ImageError: a file that cannot be read.
        LabelAssembleError: a class that the network does not know, or a file that cannot be written.
    """
    for name in chosen:
        if name not in names:
            raise LabelAssembleError(f"the model has no class '{name}'{did_you_mean(name, names)}")
    columns = [list(names).index(name) for name in chosen]
    targets = _targets(paths, output)
    make_folder(output)
    with torch.no_grad():
        for path, target in zip(paths, targets, strict=True):
            [(pixels, found)] = explained(net, [path], views, names, columns)
            shown = [Shown(item.name, answered(item.name, item.probability), item.heat) for item in found]
            with atomic_path(target) as file:
                file.write_bytes(heat_figure(Path(split_reference(path)[0]).name, pixels, shown))
            if wrote is not None:
                wrote(target)
    return targets


def _targets(paths: Sequence[str], output: Path) -> list[Path]:
    """Return a file of its own in `output` for each path, named after it."""
    taken: set[str] = set()
    targets = []
    for path in paths:
        stem = re.sub(r"[^\w.-]+", "_", Path(split_reference(path)[0]).stem) or "image"
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name)
        targets.append(output / f"{name}.png")
    read = [file for path in paths if (file := stored_file(path)).exists()]
    for target in targets:
        if target.exists() and any(target.samefile(file) for file in read):
            raise LabelAssembleError(f"{target} would replace an image that is read: choose another --output")
    return targets
