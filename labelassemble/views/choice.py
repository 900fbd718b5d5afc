"""Which backend makes the views."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.views.batch import Views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler
from labelassemble.views.torch_backend import TorchViews

_INSTALL = 'pip install "nvidia-dali-cuda130>=2.0"'


class Choice(NamedTuple):
    """A backend and why it is the one.

    Attributes:
        name: the backend.
        reason: why, in words for the user.
    """

    name: Literal["torch", "dali"]
    reason: str


def choose_backend(options: ViewOptions, device: torch.device) -> Choice:
    """Return the backend that the options ask for, or with "auto" the quickest that can run on `device`.

    Raises:
        LabelAssembleError: DALI is asked for and cannot be imported; names the pip command.
    """
    if options.backend == "torch":
        return Choice("torch", "views.backend asks for it")
    if isinstance(options.weak, tuple) or isinstance(options.strong, tuple):
        return Choice("torch", "a list of kornia's augmentations is applied in torch")
    if options.backend == "auto" and device.type != "cuda":
        return Choice("torch", "the quickest without a GPU")
    missing = _why_no_dali()
    if options.backend == "dali":
        if missing is not None:
            raise LabelAssembleError(f"views.backend is dali, but {missing}: {_INSTALL}")
        return Choice("dali", "views.backend asks for it")
    if missing is not None:
        return Choice("torch", f"{missing}, which decodes on the GPU ({_INSTALL})")
    return Choice("dali", "decodes and transforms on the GPU")


def open_views(
    choice: Choice,
    paths: Sequence[str],
    targets: np.ndarray,
    options: ViewOptions,
    sampler: Sampler,
    device: torch.device | str = "cpu",
) -> Views:
    """Return the views of the chosen backend; the arguments are those of `TorchViews` and `DaliViews`."""
    if choice.name == "dali":
        from labelassemble.views.dali_backend import DaliViews

        return DaliViews(paths, targets, options, sampler, device)
    return TorchViews(paths, targets, options, sampler, device)


def _why_no_dali() -> str | None:
    """Return why DALI cannot be imported, or None if it can."""
    try:
        import nvidia.dali.fn  # noqa: F401
    except ModuleNotFoundError:
        return "NVIDIA DALI is not installed"
    except ImportError as error:
        return f"NVIDIA DALI cannot be imported ({error})"
    return None
