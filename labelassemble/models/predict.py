"""Probabilities of a network for files, through the deterministic view."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.models.evaluating import evaluating
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.options import ViewOptions
from labelassemble.views.torch_backend import evaluation_batches


def predict(
    net: nn.Module,
    paths: Sequence[str],
    views: ViewOptions,
    *,
    batch_size: int = 64,
    bad_files: BadFiles | None = None,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Return the probabilities of every class for each file, float64 [N, C], sigmoid of the network's logits.

    Args:
        net: takes [B, channels, size, size], gives logits [B, C]. Put into eval mode for the call, and back.
        paths: the files.
        views: size, channels and normalisation of the deterministic view.
        batch_size: images a forward pass.
        bad_files: files that cannot be read are recorded there, and their rows are NaN; None raises at the first.
        advance: called with the number of images done after each batch, for a progress display.

    Raises:
        ImageError: a file that is missing or cannot be decoded, by name, without `bad_files`.
        LabelAssembleError: too many files that cannot be read, or none that can; an answer that is not finite.
    """
    parameter = next(net.parameters())
    probabilities: np.ndarray | None = None
    with evaluating(net):
        for batch in evaluation_batches(paths, views, batch_size=batch_size, bad_files=bad_files):
            logits = net(batch.images.to(parameter.device))
            check_finite(logits, net, [str(paths[row]) for row in batch.rows.tolist()])
            part = torch.sigmoid(logits.double()).cpu().numpy()
            if probabilities is None:
                probabilities = np.full((len(paths), part.shape[1]), np.nan)
            probabilities[batch.rows.numpy()] = part
            if advance is not None:
                advance(len(part))
    if probabilities is None:
        raise LabelAssembleError(f"there must be at least one image to predict, got {len(paths)} files")
    return probabilities


def check_finite(logits: Tensor, net: nn.Module, paths: Sequence[str]) -> None:
    """Raise unless every logit of the network for some files is finite.

    Args:
        logits: [B, C]. An infinite one would pass for a probability of 0 or 1, and NaN for a file that is bad.
        net: what gave them; its attribute `classes` names the columns.
        paths: the B files.

    Raises:
        LabelAssembleError: names the first such file and class, and how many files more there are in the batch.
    """
    wrong = ~torch.isfinite(logits)
    if not wrong.any():
        return
    row, column = wrong.nonzero()[0].tolist()
    names = getattr(net, "classes", ())
    name = f"'{names[column]}'" if column < len(names) else f"class {column}"
    others = int(wrong.any(dim=1).sum()) - 1
    more = f", and likewise for {others} more of these {len(paths)} images" if others else ""
    raise LabelAssembleError(
        f"{paths[row]}: the model's answer for {name} must be finite, got {float(logits[row, column])}{more}: "
        "the model is broken (its training diverged, or its file is damaged), so train anew or use another checkpoint"
    )
