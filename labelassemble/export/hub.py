"""A network as a repository of the Hugging Face hub: config.json, model.safetensors and a card, in one folder."""

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import torch
from torch import Tensor

from labelassemble._files import make_folder
from labelassemble.errors import LabelAssembleError
from labelassemble.export.parts import ExportParts, ExportSummary
from labelassemble.models import AssembleNet, LibraryBackbone
from labelassemble.models.options import Queries
from labelassemble.views.preprocess import Preprocess

try:
    from huggingface_hub import PyTorchModelHubMixin, constants, hf_hub_download
    from safetensors import SafetensorError
    from safetensors.torch import load_file
except ModuleNotFoundError as error:
    raise LabelAssembleError(
        f"repositories of the Hugging Face hub need the package {error.name}, which is not installed: "
        "pip install 'labelassemble[hub]'"
    ) from None

_CARD: Final = """\
---
{{ card_data }}
---

# {{ title | default("A network of labelassemble", true) }}

Not a medical device; for research.

```python
from labelassemble.export.hub import HubNet

net = HubNet.from_pretrained("FOLDER OR REPOSITORY")
net.classes, net.thresholds
probabilities = net.probabilities(images)  # uint8 or floating in 0..1, [B, 1 or 3, H, W] -> float64 [B, C]
```

{{ card | default("", true) }}
"""


class HubNet(  # type: ignore[call-arg]  # which the mixin takes
    AssembleNet,
    PyTorchModelHubMixin,  # type: ignore[misc]
    library_name="labelassemble",
    tags=["image-classification", "medical", "partial-labels"],
    model_card_template=_CARD,
):
    """`AssembleNet` that saves and loads by `huggingface_hub.PyTorchModelHubMixin`, with all that its answers need.

    ``save_pretrained(folder)`` writes a folder, ``from_pretrained(folder)`` reads it without a network, and
    ``push_to_hub(repository)`` and ``from_pretrained(repository)`` do it over the hub. Weights load strictly.

    Args:
        backbone: as of `AssembleNet`: a name, a `LibraryBackbone` or a mapping of its keys. A function cannot be kept.
        classes: as of `AssembleNet`, as are head, in_channels, sources, queries and image_size.
        mean: of the view, subtracted from values in 0..1.
        std: of the view, divides after that.
        interest: classes that the model was chosen by.
        thresholds: per class, positive at or above; infinity: never; None: none could be chosen.
        temperatures: of the calibration, per class, 1 where there is none.
        offsets: of the calibration, per class, 0 where there is none.

    Raises:
        LabelAssembleError: as `AssembleNet`, or something given for another class.
    """

    def __init__(
        self,
        backbone: str | dict[str, Any] = "densenet121",
        *,
        classes: Sequence[str],
        head: str = "class_query",
        in_channels: int = 1,
        sources: Mapping[str, Sequence[str]] | None = None,
        queries: Queries = "one-hot",
        image_size: int = 224,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        interest: Sequence[str] = (),
        thresholds: Mapping[str, float | str | None] | None = None,
        temperatures: Mapping[str, float] | None = None,
        offsets: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            backbone if isinstance(backbone, str) else LibraryBackbone.model_validate(backbone),
            classes=classes,
            head=head,
            in_channels=in_channels,
            sources=sources,
            queries=queries,
            image_size=image_size,
        )
        for what, given in (("thresholds", thresholds), ("temperatures", temperatures), ("offsets", offsets)):
            if given is not None and set(given) != set(classes):
                raise LabelAssembleError(f"{what} must be given for {list(classes)}, got {list(given)}")
        self.interest = tuple(interest)
        self.thresholds: dict[str, float | None] | None = None
        if thresholds is not None:  # JSON has no infinity but as text
            self.thresholds = {
                name: None if value is None else float(value) for name, value in thresholds.items()
            }
        self.temperatures = dict(temperatures) if temperatures is not None else dict.fromkeys(classes, 1.0)
        self.offsets = dict(offsets) if offsets is not None else dict.fromkeys(classes, 0.0)
        self._preprocess = Preprocess(in_channels, image_size, mean, std)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return calibrated probabilities float64 [B, C] of images [B, 1 or 3, H, W], uint8 or floating in 0..1."""
        divisors = torch.tensor([self.temperatures[name] for name in self.classes], dtype=torch.float64)
        added = torch.tensor([self.offsets[name] for name in self.classes], dtype=torch.float64)
        prepared: Tensor = self._preprocess(images)
        logits = self(prepared).double()
        return torch.sigmoid(logits / divisors.to(logits.device) + added.to(logits.device))

    @classmethod
    def _from_pretrained(  # called by the mixin
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        **model_kwargs: Any,
    ) -> Self:
        """Return the network with the weights of a folder or repository, in eval mode.

        Raises:
            LabelAssembleError: files that are missing, damaged, or of another network.
        """
        if "classes" not in model_kwargs:
            raise LabelAssembleError(
                f"{model_id}: has no config.json with the classes of a network of labelassemble"
            )
        net = cls(**model_kwargs)
        file = Path(model_id) / constants.SAFETENSORS_SINGLE_FILE
        if not Path(model_id).is_dir():
            file = Path(
                hf_hub_download(
                    repo_id=model_id,
                    filename=constants.SAFETENSORS_SINGLE_FILE,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    token=token,
                    local_files_only=local_files_only,
                )
            )
        try:
            net.load_state_dict(load_file(file, device=map_location))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise LabelAssembleError(
                f"{file}: does not hold the weights of its config.json ({reason})"
            ) from None
        return net.to(map_location).eval()


def write_hub(
    net: AssembleNet,
    backbone: str | LibraryBackbone,
    parts: ExportParts,
    folder: Path,
    *,
    head: str,
    card: str = "",
) -> ExportSummary:
    """Write a network as a folder that `HubNet.from_pretrained` reads, compared with eager; return a summary.

    Args:
        net: the network.
        backbone: its backbone.
        parts: of `take_apart`.
        folder: to write; made if need be.
        head: its head.
        card: Markdown for README.md.

    Raises:
        LabelAssembleError: the folder cannot be written, or what is read back differs from eager.
    """
    metadata = parts.metadata
    thresholds = metadata.thresholds
    hub = HubNet(
        backbone if isinstance(backbone, str) else backbone.model_dump(mode="json"),
        classes=list(net.classes),
        head=head,
        in_channels=metadata.input.channels,
        sources={name: list(labels) for name, labels in net.sources.items()},
        image_size=metadata.input.size,
        mean=list(metadata.input.mean),
        std=list(metadata.input.std),
        interest=list(metadata.interest),
        thresholds=None
        if thresholds is None
        else {name: "Infinity" if value == math.inf else value for name, value in thresholds.items()},
        temperatures=metadata.temperatures,
        offsets=metadata.offsets,
    )
    hub.load_state_dict(net.state_dict())
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        # Compared before it is in the folder; on its disk, where moving a file is one step: it may be a mount.
        with tempfile.TemporaryDirectory(dir=place, prefix=f".{folder.name}.") as unfinished:
            hub.save_pretrained(  # type: ignore[operator]  # of the mixin
                unfinished, model_card_kwargs={"title": folder.resolve().name, "card": card}
            )
            again = HubNet.from_pretrained(unfinished)
            with torch.inference_mode():
                answers = torch.cat([again.probabilities(image) for image in parts.images])
            metadata = parts.compared(answers, folder)
            make_folder(folder)
            files = sorted(Path(unfinished).iterdir())
            size = sum(file.stat().st_size for file in files)
            for file in files:
                os.replace(file, folder / file.name)
    except OSError as error:
        raise LabelAssembleError(f"{folder}: cannot be written ({error.strerror})") from None
    return ExportSummary(path=folder, size=size, metadata=metadata)
