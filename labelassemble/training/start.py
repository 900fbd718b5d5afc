"""The network that a training starts with: new, or going on from what another run has learnt."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from labelassemble.errors import LabelAssembleError
from labelassemble.models import AssembleNet, LibraryBackbone, ModelOptions
from labelassemble.models.carry_over import carry_over, train_only_added
from labelassemble.models.segmentation.segment_net import SegmentNet
from labelassemble.training.options import TrainOptions


class Origin(BaseModel):
    """Where a run's network comes from, as from.json in its folder says.

    Attributes:
        run: the folder of the run that it goes on from.
        epoch: epochs that the weights taken from there were trained for.
        kept: classes that were known there, in the order of that run.
        added: classes that are new.
    """

    model_config = ConfigDict(frozen=True)

    run: str
    epoch: int
    kept: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Return a sentence for a person."""
        new = f"adds {', '.join(self.added)}" if self.added else "adds none"
        return f"Goes on from {self.run} after epoch {self.epoch}: keeps {', '.join(self.kept)}; {new}"


def read_origin(path: Path) -> Origin | None:
    """Return what from.json says, None if there is no such file.

    Raises:
        LabelAssembleError: the file is damaged.
    """
    try:
        return Origin.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError):
        raise LabelAssembleError(
            f"{path}: does not say where the run goes on from: remove the run, or mend the file"
        ) from None


def start_network(
    model: ModelOptions,
    *,
    classes: Sequence[str],
    sources: Mapping[str, Sequence[str]] | None,
    channels: int,
    size: int,
    seed: int,
    dims: int | None = None,
    shares: Mapping[str, float] | None = None,
    learnt: AssembleNet | SegmentNet | None = None,
    origin: Origin | None = None,
) -> tuple[AssembleNet | SegmentNet, Origin | None]:
    """Return the network of a configuration, on the CPU, and the origin with the classes kept and added.

    Args:
        model: backbone, head and pretrained weights.
        classes: names of the classes.
        sources: the classes that each source labels, for the heads that need it.
        channels: of the images.
        size: height and width of the images.
        seed: of the initial weights.
        dims: spatial axes of volumes or slices with masks; None for images.
        shares: the share of its known voxels that a class fills, by name.
        learnt: the network to go on from, instead of pretrained weights.
        origin: where `learnt` comes from; alone, what an earlier part of this run found of it.

    Raises:
        LabelAssembleError: what `AssembleNet` and `carry_over` raise.
    """
    if learnt is not None:
        model = model.without_weights()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net: AssembleNet | SegmentNet
        if dims is None or isinstance(model.backbone, LibraryBackbone):
            net = AssembleNet(
                model.backbone,
                classes=classes,
                head=model.head,
                in_channels=channels,
                pretrained=model.pretrained,
                sources=sources,
                queries=model.queries,
                image_size=size,
            )
        else:
            net = SegmentNet(model.backbone, classes=classes, dims=dims, queries=model.queries, shares=shares)
        if learnt is not None and origin is not None:
            carried = carry_over(learnt, net)
            origin = origin.model_copy(update={"kept": carried.kept, "added": carried.added})
    return net, origin


def freeze(net: AssembleNet | SegmentNet, options: TrainOptions, origin: Origin | None) -> None:
    """Freeze what the options ask for.

    Raises:
        LabelAssembleError: freeze_known in a run that goes on from no other, or where it leaves nothing to train.
    """
    if options.freeze_known:
        if origin is None:
            raise LabelAssembleError(
                "train.freeze_known keeps what another run knew: give that run with --from"
            )
        train_only_added(net, origin.added)
    elif options.freeze_backbone:
        net.freeze_backbone()
