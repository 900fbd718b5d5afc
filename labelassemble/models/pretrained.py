"""Weights that a backbone starts with: a state dict, or the backbone in the checkpoint of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError


def load_backbone(network: nn.Module, state: Mapping[str, Tensor], path: Path, *, stem: str) -> None:
    """Load the weights of a backbone, from grey to colour images or back where the stem asks for it.

    A 3-channel stem in the file fits a 1-channel network as the sum over its channels, a 1-channel stem fits a
    3-channel network as a third of it for each channel.

    Args:
        network: the backbone.
        state: parameters and buffers by name.
        path: where they come from, for the message.
        stem: name of the first convolution's weights.

    Raises:
        LabelAssembleError: keys or shapes that do not fit, by name.
    """
    state, own = dict(state), network.state_dict()
    first = state.get(stem)
    if first is not None and first.dim() == 4:
        channels = (first.shape[1], own[stem].shape[1])
        if channels == (3, 1):
            state[stem] = first.sum(dim=1, keepdim=True)
        elif channels == (1, 3):
            state[stem] = first.expand(-1, 3, -1, -1) / 3
    # Files older than BatchNorm's counter lack it, and it plays no part with a fixed momentum.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    misshapen = [
        f"{key} {list(state[key].shape)} for {list(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    for what, keys in (("lacks", missing), ("has unknown", unexpected), ("has misshapen", misshapen)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise LabelAssembleError(f"{path}: {what} weights: {', '.join(keys[:3])}{more}")
    network.load_state_dict(state, strict=False)


def read_state_dict(path: Path, classes: Sequence[type] = ()) -> dict[str, Tensor]:
    """Return the tensors of a file by name; of a checkpoint of `labelassemble train`, those of its backbone.

    Args:
        path: *.safetensors, or a file of torch: a state dict, alone or as "state_dict" or "model" of a dict. What
            DataParallel puts in front of each name is taken away.
        classes: of which a whole module in the file may consist, whose state dict is taken then; nothing else in a file
            is ever run.

    Raises:
        LabelAssembleError: no such file, not a state dict, no backbone or several in it.
    """
    if path.suffix == ".safetensors" and path.exists():
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals(list(classes)):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise LabelAssembleError(f"{path}: no such file of pretrained weights") from None
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines()]
        reason = next(
            (line for line in lines if line.startswith("WeightsUnpickler")), lines[0] if lines else ""
        )
        raise LabelAssembleError(
            f"{path}: not a state dict that torch can load safely ({reason.partition('. ')[0]}): save one, "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    if isinstance(state, nn.Module):
        for module in state.modules():  # of a torch before 1.6, which knew no such buffers
            vars(module).setdefault("_non_persistent_buffers_set", set())
        state = state.state_dict()
    if isinstance(state, Mapping) and isinstance(state.get("description"), Mapping):
        return _backbone_of_run(path, state)
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise LabelAssembleError(f"{path}: not a state dict: expected names of parameters and their tensors")
    if state and all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise LabelAssembleError(
            f"{path}: reading it needs the package safetensors, which is not installed: "
            "pip install 'labelassemble[hub]'"
        ) from None
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise LabelAssembleError(f"{path}: not a file of safetensors ({error})") from None


def _backbone_of_run(path: Path, checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the backbone's weights of a checkpoint that `labelassemble train` left."""
    prefix = "backbone."
    state = {
        key.removeprefix(prefix): value
        for key, value in dict(checkpoint.get("model", {})).items()
        if key.startswith(prefix) and isinstance(value, Tensor)
    }
    if not state:
        raise LabelAssembleError(f"{path}: a checkpoint without the weights of a backbone")
    if any(key.startswith("networks.") for key in state):
        raise LabelAssembleError(
            f"{path}: holds a backbone for each source (head multi_network), so there is not one to take"
        )
    return state
