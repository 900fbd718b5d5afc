"""The assembled network: a backbone, and a head with one output a class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.head import ClassQueryHead
from labelassemble.models.densenet import densenet121, densenet_small

_BACKBONES = {"densenet121": densenet121, "densenet_small": densenet_small}

Backbone = Literal["densenet121", "densenet_small"]
Head = Literal["class_query", "linear"]


class ModelOptions(BaseModel):
    """The `model` part of a configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Backbone = "densenet121"
    head: Head = "class_query"
    pretrained: Path | None = None


class AssembleNet(nn.Module):
    """A network that answers every class of an assembly.

    Args:
        backbone: "densenet121" (the paper's) or "densenet_small" (for images of 16 to 64 pixels).
        classes: names of the classes, in the order of the outputs.
        head: "class_query" (the paper's dynamic adapter, section 2.2) or "linear".
        in_channels: channels of the images, 1 or 3.
        pretrained: a file of torchvision's weights for the backbone.

    Attributes:
        classes: the names, in the order of the outputs.

    Raises:
        LabelAssembleError: an unknown backbone or head, no class, or weights that do not fit.

    Example:
        >>> import torch
        >>> from labelassemble import AssembleNet
        >>> net = AssembleNet("densenet_small", classes=["Nodule", "Edema"], in_channels=1)
        >>> net(torch.zeros(4, 1, 32, 32)).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        backbone: str = "densenet121",
        *,
        classes: Sequence[str],
        head: str = "class_query",
        in_channels: int = 1,
        pretrained: Path | str | None = None,
    ) -> None:
        super().__init__()
        if backbone not in _BACKBONES:
            raise LabelAssembleError(f"unknown backbone '{backbone}'{did_you_mean(backbone, _BACKBONES)}")
        if not classes:
            raise LabelAssembleError("classes must name at least one class, got none")
        self.backbone = _BACKBONES[backbone](in_channels)
        if pretrained is not None:
            self.backbone.load_pretrained(Path(pretrained))
        self.head: nn.Module
        if head == "class_query":
            self.head = ClassQueryHead(self.backbone.out_features, list(classes))
        elif head == "linear":
            self.head = nn.Linear(self.backbone.out_features, len(classes))
        else:
            raise LabelAssembleError(f"unknown head '{head}'{did_you_mean(head, ('class_query', 'linear'))}")
        self.classes: tuple[str, ...] = tuple(classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of preprocessed images [B, in_channels, H, W]."""
        return self.head(self.backbone(images))  # type: ignore[no-any-return]
