"""A network as a repository of the Hugging Face hub: config.json, model.safetensors and a card, in one folder."""

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from labelassemble._files import give_usual_mode, make_folder
from labelassemble._validation import validation_sentence
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.export.parts import ExportParts, ExportSummary
from labelassemble.models import AssembleNet, LibraryBackbone
from labelassemble.models.options import Queries
from labelassemble.views.preprocess import Preprocess

try:
    from huggingface_hub import PyTorchModelHubMixin, constants, hf_hub_download
    from huggingface_hub.utils import HFValidationError
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


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class _Answering(BaseModel):
    """What config.json says beside the network: it may come from anywhere, so each value is checked."""

    image_size: Annotated[int, Field(ge=1)]
    in_channels: Annotated[int, Field(ge=1, le=3)]
    mean: tuple[_Finite, ...]
    std: tuple[_Positive, ...]
    interest: tuple[str, ...]
    thresholds: dict[str, Annotated[float, Field(ge=0.0)] | None] | None  # JSON has no infinity but as text
    temperatures: dict[str, _Positive] | None
    offsets: dict[str, _Finite] | None


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
        try:
            found = _Answering(
                image_size=image_size,
                in_channels=in_channels,
                mean=mean,
                std=std,
                interest=interest,
                thresholds=thresholds,
                temperatures=temperatures,
                offsets=offsets,
            )
            network = backbone if isinstance(backbone, str) else LibraryBackbone.model_validate(backbone)
        except ValidationError as error:
            raise LabelAssembleError(validation_sentence(error, _Answering, LibraryBackbone)) from None
        super().__init__(
            network,
            classes=classes,
            head=head,
            in_channels=found.in_channels,
            sources=sources,
            queries=queries,
            image_size=found.image_size,
        )
        names = set(self.classes)
        for what, given in (
            ("thresholds", found.thresholds),
            ("temperatures", found.temperatures),
            ("offsets", found.offsets),
        ):
            if given is not None and set(given) != names:
                raise LabelAssembleError(f"{what} must be given for {list(classes)}, got {list(given)}")
        unknown = [name for name in found.interest if name not in names]
        if unknown:
            raise LabelAssembleError(f"interest names {unknown[0]!r}{did_you_mean(unknown[0], classes)}")
        self.interest = found.interest
        self.thresholds = found.thresholds
        self.temperatures = found.temperatures or dict.fromkeys(classes, 1.0)
        self.offsets = found.offsets or dict.fromkeys(classes, 0.0)
        try:
            self._preprocess = Preprocess(found.in_channels, found.image_size, found.mean, found.std)
        except ValueError as error:
            raise LabelAssembleError(str(error)) from None

    def probabilities(self, images: Tensor) -> Tensor:
        """Return calibrated probabilities float64 [B, C] of images [B, 1 or 3, H, W], uint8 or floating in 0..1."""
        divisors = torch.tensor([self.temperatures[name] for name in self.classes], dtype=torch.float64)
        added = torch.tensor([self.offsets[name] for name in self.classes], dtype=torch.float64)
        prepared: Tensor = self._preprocess(images)
        logits = self(prepared).double()
        return torch.sigmoid(logits / divisors.to(logits.device) + added.to(logits.device))

    def _save_pretrained(self, save_directory: Path) -> None:  # called by the mixin
        super()._save_pretrained(save_directory)
        give_usual_mode(
            save_directory / constants.SAFETENSORS_SINGLE_FILE
        )  # safetensors shuts out everybody else

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Return the network of a folder or of a repository, in eval mode.

        Args:
            pretrained_model_name_or_path: a folder that `save_pretrained` or `export --format hub` wrote, or
                "owner/name" of a repository.
            options: as of `PyTorchModelHubMixin.from_pretrained`; arguments of `HubNet` win over those of config.json.

        Raises:
            LabelAssembleError: no such folder, or files that are missing, damaged, or of another network.
        """
        place = Path(pretrained_model_name_or_path)
        config = place / constants.CONFIG_NAME
        if place.is_file():
            raise LabelAssembleError(f"{place}: is a file, not the folder of a network")
        if config.is_file():
            try:
                settings = json.loads(config.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise LabelAssembleError(f"{config}: is no JSON ({error})") from None
            if not isinstance(settings, dict):
                raise LabelAssembleError(
                    f"{config}: must hold keys with values, got {type(settings).__name__}"
                )
        try:
            found: Self = super().from_pretrained(pretrained_model_name_or_path, **options)
        except HFValidationError:
            raise LabelAssembleError(
                f"{pretrained_model_name_or_path}: no such folder, and no repository, which is OWNER/NAME"
            ) from None
        return found

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
            # An end in between leaves a folder that is refused, not one network's settings with another's weights.
            files = sorted(Path(unfinished).iterdir(), key=lambda file: file.name == constants.CONFIG_NAME)
            size = sum(file.stat().st_size for file in files)
            (folder / constants.CONFIG_NAME).unlink(missing_ok=True)
            for file in files:
                os.replace(file, folder / file.name)
    except OSError as error:
        raise LabelAssembleError(f"{folder}: cannot be written ({error.strerror})") from None
    return ExportSummary(path=folder, size=size, metadata=metadata)
