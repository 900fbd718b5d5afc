"""What the networks of every library need: the import, another stem, no classifier, weights that fit."""

import importlib
import warnings
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError, did_you_mean


class InputValues(NamedTuple):
    """The values that weights expect: (value - mean) / std of values in 0..1, one a channel or one for all.

    Attributes:
        mean: is subtracted.
        std: divides after that.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def for_channels(self, channels: int) -> "InputValues":
        """Return the same for grey or colour images: for grey ones the means of the three channels'."""
        if channels != 1 or len(self.mean) == 1:
            return self
        return InputValues((sum(self.mean) / len(self.mean),), (sum(self.std) / len(self.std),))


def import_library(module: str, extra: str) -> ModuleType:
    """Return a library's module; what it warns of as it is imported, and the filters that it sets, stay there.

    Raises:
        LabelAssembleError: it is not installed, or cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise LabelAssembleError(
            f"backbones of {extra} need the package {error.name}, which is not installed: "
            f"pip install 'labelassemble[{extra}]'"
        ) from None
    except Exception as error:
        raise LabelAssembleError(
            f"{module} cannot be imported beside torch {torch.__version__} ({first_line(error)}): install the releases "
            f"of {extra} and torchvision that belong to this torch"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line that an error says, or its kind."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def check_name(library: str, name: str, known: Iterable[str]) -> None:
    """Raise LabelAssembleError unless the library has a network of that name."""
    names = list(known)
    if name not in names:
        raise LabelAssembleError(f"{library} has no network '{name}' for images{did_you_mean(name, names)}")


def without_classifier(network: nn.Module) -> str:
    """Put nothing in the place of the last layer, the classifier; return its name.

    That is the last linear layer, or the last convolution in a network without one (SqueezeNet).
    """
    layers = list(network.named_modules())
    names: list[str] = [name for name, module in layers if isinstance(module, nn.Linear)]
    names = names or [name for name, module in layers if isinstance(module, nn.Conv2d)]
    parent, _, attribute = names[-1].rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return names[-1]


def stem_of(network: nn.Module) -> str:
    """Return the name of the first convolution."""
    convolutions: list[str] = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d)]
    return convolutions[0]


def change_stem(network: nn.Module, channels: int) -> None:
    """Give a network for colour images a first convolution for `channels` channels.

    For grey images its weights are the sums over colours: it answers a grey image as it answered its three copies.
    """
    name = stem_of(network)
    old = network.get_submodule(name)
    if not isinstance(old, nn.Conv2d) or old.in_channels == channels:
        return
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]  # pairs
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        grey = old.weight.sum(dim=1, keepdim=True)
        new.weight.copy_(grey if old.in_channels > channels else grey.expand_as(new.weight) / channels)
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, new)


def left_out(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Return the weights without those whose names begin so."""
    return {key: value for key, value in state.items() if not key.startswith(prefixes)}
