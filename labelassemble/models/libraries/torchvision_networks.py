"""Networks of torchvision: its classification models, without their last layer."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from labelassemble.models.densenet import current_name
from labelassemble.models.libraries import parts
from labelassemble.models.libraries.parts import InputValues

_SHIFTED = ("googlenet", "inception_v3")
"""Their published weights take (value - 0.5) / 0.5: torchvision makes that of ImageNet's mean and std inside."""
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def check_name(name: str) -> None:
    """Raise LabelAssembleError unless there is a network of that name, or torchvision itself."""
    models = _models()
    parts.check_name("torchvision", name, models.list_models(module=models))


def input_values(name: str) -> InputValues:
    """Return the values that its weights expect, by the transforms that torchvision describes them with."""
    if name in _SHIFTED:
        return InputValues((0.5,), (0.5,))
    transforms = _models().get_model_weights(name).DEFAULT.transforms()
    return InputValues(tuple(transforms.mean), tuple(transforms.std))


def download(name: str) -> dict[str, Tensor]:
    """Return the published weights."""
    weights = _models().get_model_weights(name).DEFAULT
    return dict(weights.get_state_dict(progress=False, check_hash=True))


def build(name: str, *, channels: int, size: int) -> tuple[nn.Module, Callable[[dict[str, Tensor]], Any]]:
    """Return the network from images to features, with random weights, and what names weights of a file as it does."""
    options: dict[str, Any] = {}
    if name in _SHIFTED:
        options = {"aux_logits": False, "transform_input": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": size}
    elif name.startswith("maxvit"):
        options = {"input_size": (size, size)}
    network: nn.Module = _models().get_model(name, weights=None, **options)
    classifier = parts.without_classifier(network)
    parts.change_stem(network, channels)

    def named(state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = parts.left_out(state, f"{classifier}.", *_AUXILIARY)
        state = {current_name(key): value for key, value in state.items()}
        if "encoder.pos_embedding" in state and isinstance(
            patch := getattr(network, "patch_size", None), int
        ):
            vit = parts.import_library("torchvision.models.vision_transformer", "torchvision")
            state = dict(vit.interpolate_embeddings(size, patch, state))
        return state

    return network, named


def _models() -> Any:
    return parts.import_library("torchvision.models", "torchvision")
