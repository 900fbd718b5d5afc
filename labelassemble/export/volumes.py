"""Export of a network that answers every voxel: its patches, as TorchScript or as a package of AOTInductor.

The file takes what `load_case` makes of a volume, a patch at a time, float32 [B, 1, *patch] in 0..1, and gives logits
[B, C, *patch], since windows are averaged before the sigmoid. `labelassemble::Segmenter` does what is around it.
"""

import io
import logging
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim

from labelassemble._class_name import check_class_name
from labelassemble._quiet import quiet
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.export.files import written_whole
from labelassemble.export.parts import TOLERANCES
from labelassemble.export.pt2 import check_compiler
from labelassemble.export.torchscript import quiet_torchscript, reloaded
from labelassemble.export.volume_metadata import VOLUME_METADATA_FILE, VolumeMetadata
from labelassemble.models.segmentation.segment_net import FoldedSegmentNet, SegmentNet
from labelassemble.version import __version__
from labelassemble.views.volume_options import VolumeOptions

VolumeFormat = Literal["torchscript", "pt2"]
_LARGEST_BATCH = 64


@dataclass(frozen=True)
class VolumeExportSummary:
    """What was exported; as text, one line for a person.

    Attributes:
        path: the file.
        size: its size in bytes.
        metadata: what the file says of itself, with the difference from the network.
    """

    path: Path
    size: int
    metadata: VolumeMetadata

    def __str__(self) -> str:
        patch = " x ".join(map(str, self.metadata.patch))
        return (
            f"{self.path}: {len(self.metadata.classes)} classes, patches of {patch}, {self.size / 1e6:.1f} MB, "
            f"largest difference from the network over {self.metadata.patches} patches "
            f"{self.metadata.difference:.1e}"
        )


class ServedPatches(nn.Module):
    """What is exported as TorchScript; the attribute describes the model to C++ programs, which read no JSON."""

    labelassemble_volumes: dict[str, str]

    def __init__(self, network: nn.Module, entries: dict[str, str]) -> None:
        super().__init__()
        self.network = network
        self.labelassemble_volumes = entries

    def forward(self, patches: Tensor) -> Tensor:
        """Return logits [B, C, *patch] of patches float32 [B, 1, *patch]."""
        logits: Tensor = self.network(patches)
        return logits


def export_volumes(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str],
    options: VolumeOptions,
    detection: DetectionOptions | None = None,
    interest: Sequence[str] = (),
    thresholds: Mapping[str, float | None] | None = None,
    patches: Tensor | None = None,
    format: VolumeFormat = "torchscript",
) -> VolumeExportSummary:
    """Write a network for volumes, compare it with the network itself, and return a summary.

    The queries of a `SegmentNet` are folded into one convolution. The network is left as it is; the file appears whole
    or not at all. A `.pt2` is machine code for this kind of processor and this version of torch.

    Args:
        network: patches [B, 1, *patch] -> logits [B, C, *patch].
        path: the file to write.
        classes: names, in the order of the channels.
        options: grid, intensities, patch and overlap that it was trained with.
        detection: threshold of the mask and how a patient is scored.
        interest: classes that the model was chosen by.
        thresholds: of the patients' scores, for all classes; None: none could be chosen for that class.
        patches: to compare on, float32 [N, 1, *patch]; default: two of noise.
        format: "torchscript" or "pt2".

    Raises:
        LabelAssembleError: a folder that is not there, other classes than the network has, a network that torch cannot
            export, or an export that differs from it by more than 1e-5.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise LabelAssembleError(f"{path}: the folder {path.parent} does not exist")
    module = FoldedSegmentNet(network) if isinstance(network, SegmentNet) else network
    module = deepcopy(module).cpu().float().eval().requires_grad_(False)
    if patches is None:
        noise = torch.Generator().manual_seed(0)
        patches = torch.rand(2, 1, *options.patch, generator=noise)
    expected = _probabilities(deepcopy(network).cpu().float().eval(), patches)
    if expected.shape[1] != len(classes):
        raise LabelAssembleError(
            f"classes must name each of the network's {expected.shape[1]} channels, got {len(classes)} names"
        )
    detection = detection or DetectionOptions()
    metadata = VolumeMetadata(
        library=__version__,
        torch=torch.__version__,
        classes=tuple(map(check_class_name, classes)),
        interest=tuple(interest),
        thresholds=None if thresholds is None else {name: thresholds[name] for name in classes},
        patch=options.patch,
        overlap=options.overlap,
        spacing=options.spacing,
        window=options.window,
        percentiles=options.percentiles,
        threshold=detection.threshold,
        patient_score=detection.patient_score,
        top=detection.top,
        difference=float("nan"),
        patches=len(patches),
    )

    def compared(answer: Callable[[Tensor], Tensor]) -> VolumeMetadata:
        return _compared(metadata, _probabilities(answer, patches), expected, path)

    write = _write_torchscript if format == "torchscript" else _write_pt2
    written = write(module, path, metadata, compared)
    return VolumeExportSummary(path=path, size=path.stat().st_size, metadata=written)


Compared = Callable[[Callable[[Tensor], Tensor]], VolumeMetadata]


@quiet_torchscript()
def _write_torchscript(
    module: nn.Module, path: Path, metadata: VolumeMetadata, compared: Compared
) -> VolumeMetadata:
    try:
        script = torch.jit.script(ServedPatches(module, metadata.entries()))
    except Exception:  # of several kinds; SwinUNETR traces only
        script = torch.jit.script(ServedPatches(_traced(module, path, metadata), metadata.entries()))
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        metadata = compared(reloaded(script))
    with written_whole(path) as temporary:
        buffer = io.BytesIO()
        torch.jit.save(
            script, buffer, _extra_files={VOLUME_METADATA_FILE: metadata.model_dump_json(indent=2)}
        )
        temporary.write_bytes(buffer.getbuffer())
    return metadata


def _traced(module: nn.Module, path: Path, metadata: VolumeMetadata) -> Any:
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that become constants, as they are to be
            return torch.jit.trace(module, torch.zeros(2, 1, *metadata.patch), check_trace=False)  # type: ignore[no-untyped-call]
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise LabelAssembleError(f"{path}: TorchScript cannot trace the network ({reason})") from error


def _write_pt2(module: nn.Module, path: Path, metadata: VolumeMetadata, compared: Compared) -> VolumeMetadata:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    if path.suffix != ".pt2":
        raise LabelAssembleError(f"{path}: a file of the format pt2 must be named *.pt2")
    check_compiler(path)
    batch = Dim("batch", min=1, max=_LARGEST_BATCH)
    with written_whole(path) as temporary, quiet("torch", logging.ERROR):
        try:
            with torch.no_grad():
                program = torch.export.export(
                    module, (torch.zeros(2, 1, *metadata.patch),), dynamic_shapes=({0: batch},)
                )
            aoti_compile_and_package(
                program,
                package_path=str(temporary),
                inductor_configs={"aot_inductor.metadata": metadata.entries(), "freezing": True},
            )
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise LabelAssembleError(f"{path}: AOTInductor cannot compile the network ({reason})") from error
        metadata = compared(aoti_load_package(str(temporary)))
        with zipfile.ZipFile(temporary, "a") as archive:
            root = archive.namelist()[0].partition("/")[0]
            archive.writestr(f"{root}/extra/{VOLUME_METADATA_FILE}", metadata.model_dump_json(indent=2))
    return metadata


def _probabilities(answer: Callable[[Tensor], Tensor], patches: Tensor) -> Tensor:
    """Return probabilities [N, C, *patch], of patches one at a time and then of two: batches of any size must work."""
    with torch.inference_mode():
        found = [answer(patch[None]) for patch in patches[:1]]
        found += [answer(patches[first : first + 2]) for first in range(1, len(patches), 2)]
        return torch.cat(found).double().sigmoid()


def _compared(metadata: VolumeMetadata, answers: Tensor, expected: Tensor, path: Path) -> VolumeMetadata:
    difference = float((answers - expected).abs().max())
    if not difference <= TOLERANCES["float32"]:  # NaN fails too
        raise LabelAssembleError(
            f"{path}: not written: the export's probabilities may differ from the network's by "
            f"{TOLERANCES['float32']:g}, got {difference:.3g} over {metadata.patches} patches"
        )
    return metadata.model_copy(update={"difference": difference})
