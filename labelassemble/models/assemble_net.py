"""The assembled network: a backbone, and a head with one output a class."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from labelassemble import _extension
from labelassemble._class_name import check_class_list
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.head import ClassQueryHead
from labelassemble.models.backbones import Backbones, feature_count
from labelassemble.models.densenet import DenseNet, densenet121, densenet169, densenet201, densenet_small
from labelassemble.models.libraries.backbone import library_backbone
from labelassemble.models.linear_head import LinearHead
from labelassemble.models.options import HEADS_BY_SOURCE, Head, LibraryBackbone, Queries
from labelassemble.models.small import PatchNet, SmallBackbone, SmallCnn
from labelassemble.models.source_heads import SourceHeads
from labelassemble.models.task_code import TaskCodeHead
from labelassemble.named_classes import saved_names

_BACKBONES: Final[Mapping[str, Callable[[int], nn.Module]]] = {
    "densenet121": densenet121,
    "densenet169": densenet169,
    "densenet201": densenet201,
    "densenet_small": densenet_small,
    "cnn_small": SmallCnn,
    "cnn_small_64": partial(SmallCnn, size=64),
    "patch_small": PatchNet,
}


class AssembleNet(nn.Module):
    """A network that answers every class of an assembly.

    Args:
        backbone: "densenet121" (the paper's), "densenet169", "densenet201", "densenet_small" (for images of 16 to 64
            pixels), "cnn_small" (8 to 64 pixels, quick on a CPU), "cnn_small_64" (the same with a pooling more, for 64)
            or "patch_small" (two layers over patches of 4x4 pixels, the demo's); or a function that takes the number
            of channels and returns a module of one's own, from images [B, in_channels, H, W] to features [B, D], with
            D as its `out_features`; or a `LibraryBackbone`, a network of timm, torchvision, MONAI or torchxrayvision.
        classes: names of the classes, in the order of the outputs.
        head: "class_query" (the paper's dynamic adapter, section 2.2), or one that it is compared with: "linear";
            "multi_network" (a network a source, a class answered by the mean logit over the networks whose source
            labels it: the mean of logits is that of log-odds, and stays linear in each network's features);
            "source_heads" (`SourceHeads`, Med3D); "task_code" (`TaskCodeHead`, DoDNet).
        in_channels: channels of the images, 1 or 3.
        pretrained: a file of weights for the backbone, see `DenseNet.load_pretrained`.
        sources: the classes that each source labels, by its name; "multi_network" and "source_heads" need them.
        queries: how the queries of the head "class_query" start: "one-hot", or "random", each of length 1.
        image_size: height and width of the images, for networks of other libraries, some of which take no other.

    Attributes:
        classes: the names, in the order of the outputs.
        sources: the classes that each source labels; empty for the heads that do not need it.
        needs_sources: whether training passes the images' sources.

    Raises:
        LabelAssembleError: an unknown backbone or head, one's own backbone without `out_features` or with pretrained
            weights, a library that is not installed, no class, no sources for a head that needs them, or weights that
            do not fit.

    Example:
        >>> import torch
        >>> from labelassemble import AssembleNet
        >>> net = AssembleNet("densenet_small", classes=["Nodule", "Edema"], in_channels=1)
        >>> net(torch.zeros(4, 1, 32, 32)).shape
        torch.Size([4, 2])
    """

    def __init__(
        self,
        backbone: str | LibraryBackbone | Callable[[int], nn.Module] = "densenet121",
        *,
        classes: Sequence[str],
        head: str = "class_query",
        in_channels: int = 1,
        pretrained: Path | str | None = None,
        sources: Mapping[str, Sequence[str]] | None = None,
        queries: Queries = "one-hot",
        image_size: int = 224,
    ) -> None:
        super().__init__()
        if isinstance(backbone, str) and backbone not in _BACKBONES:
            raise LabelAssembleError(f"unknown backbone '{backbone}'{did_you_mean(backbone, _BACKBONES)}")
        if head not in get_args(Head):
            raise LabelAssembleError(f"unknown head '{head}'{did_you_mean(head, get_args(Head))}")
        self.classes: tuple[str, ...] = tuple(check_class_list(classes))
        self.needs_sources: bool = head in HEADS_BY_SOURCE
        if self.needs_sources and not sources:
            raise LabelAssembleError(f"head '{head}' needs sources: the classes that each source labels")
        labelled = dict(sources or {}) if self.needs_sources else {}
        self.sources = {name: tuple(labels) for name, labels in labelled.items()}

        def new_backbone() -> nn.Module:
            if isinstance(backbone, LibraryBackbone):
                network = library_backbone(backbone, channels=in_channels, size=image_size)
            elif isinstance(backbone, str):
                network = _BACKBONES[backbone](in_channels)
            else:
                network = backbone(in_channels)
            if pretrained is not None:
                _load_pretrained(network, Path(pretrained))
            return network

        self.backbone: nn.Module = (
            Backbones([new_backbone() for _ in self.sources]) if head == "multi_network" else new_backbone()
        )
        features = feature_count(self.backbone)
        self.head: nn.Module
        if head == "class_query":
            self.head = ClassQueryHead(features, self.classes)
            if queries == "random":
                self.head.queries.data = normalize(torch.randn(self.head.queries.shape), dim=1)
        elif head == "linear":
            self.head = LinearHead(features, classes)
        elif head == "task_code":
            self.head = TaskCodeHead(features, classes)
        else:
            separate = head == "multi_network"
            self.head = SourceHeads(features, classes, self.sources, separate_features=separate)
        self._backbone_trains = True

    def forward(
        self,
        images: Tensor,  # [B, in_channels, H, W]
        sources: Tensor | None = None,  # int64 [B]
    ) -> Tensor:
        """Return logits [B, C] of preprocessed images.

        Args:
            images: the images.
            sources: each image's source, its place in `self.sources`, -1 for a source that labels nothing: in
                training, for the heads that need them (`needs_sources`); the others take no notice. None answers
                each class by all the sources that label it.

        Raises:
            LabelAssembleError: a head that needs sources is to learn without them.
        """
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            logits: Tensor = self.head(self.backbone(images))
            return logits
        else:
            return self._answer(images, sources)

    @torch.jit.unused
    def _answer(self, images: Tensor, sources: Tensor | None) -> Tensor:
        logits: Tensor
        if self._pools_in_the_head():
            logits = self.head.from_feature_map(self.backbone.features(images))  # type: ignore[operator]
        elif not self.needs_sources:
            logits = self.head(self.backbone(images))
        elif sources is not None:
            if isinstance(self.backbone, Backbones):
                features = self.backbone.route(images, sources)
            else:
                features = self.backbone(images)
            logits = self.head(features, sources)
        elif self.training and torch.is_grad_enabled() and len(images):
            raise LabelAssembleError(
                "this head learns an image by its source: call the network with sources, int64 [B]"
            )
        else:
            logits = self.head(self.backbone(images))
        return logits

    @torch.jit.unused
    def _pools_in_the_head(self) -> bool:
        """Return whether ReLU, average and queries are one op: neither the ReLU's map nor its gradient is written.

        Hooks want the pooled features, and an exported program no op of ours.
        """
        return (
            isinstance(self.head, ClassQueryHead)
            and isinstance(self.backbone, (DenseNet, SmallBackbone))
            and not _extension.is_exporting()
            and not _has_hooks(self.head)
            and not _has_hooks(self.backbone)
        )

    @torch.jit.unused
    def _load_from_state_dict(self, state_dict: MutableMapping[str, Any], prefix: str, *rest: Any) -> None:
        if isinstance(self.backbone, Backbones) and isinstance(self.head, SourceHeads):
            # A network for each source: in the order of the sources, as the head's rows are.
            saved = self.head.sources_in(saved_names(state_dict, f"{prefix}head.") or self.head.pairs)
            networks = f"{prefix}backbone.networks."
            before = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(networks)}
            for key, value in before.items():
                place, _, name = key.removeprefix(networks).partition(".")
                known = place.isdecimal() and int(place) < len(saved)
                state_dict[f"{networks}{saved[int(place)]}.{name}" if known else key] = value
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.jit.unused
    def freeze_backbone(self) -> None:
        """Keep the backbone as it is: no gradients, and norms in eval mode whatever `train` says."""
        self.backbone.requires_grad_(False)
        self._backbone_trains = False
        self.train(self.training)

    @torch.jit.unused
    def train(self, mode: bool = True) -> Self:
        """Set training or eval mode, as nn.Module; a frozen backbone stays in eval mode."""
        super().train(mode)
        if not self._backbone_trains:
            self.backbone.eval()
        return self


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _load_pretrained(network: nn.Module, path: Path) -> None:
    if not isinstance(network, (DenseNet, SmallBackbone)):
        raise LabelAssembleError(
            f"pretrained weights are for the library's backbones: load those of {type(network).__name__} in the "
            "function that makes it"
        )
    network.load_pretrained(path)
