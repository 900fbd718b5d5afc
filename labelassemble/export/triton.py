"""A model repository as Triton and labelassemble-serve read it: NAME/config.pbtxt, NAME/labels.txt, NAME/1/model.pt."""

from collections.abc import Mapping, Sequence
from typing import Final

from labelassemble._class_name import check_class_name
from labelassemble.export.decoder import INPUT, OUTPUT
from labelassemble.export.metadata import ModelMetadata
from labelassemble.export.volume_metadata import VolumeMetadata

MAX_BATCH: Final = 16
VOLUME_BATCH: Final = 4  # patches
QUEUE_DELAY_US: Final = 2000
# What each file is called in the repository, and the lines that make Triton load it.
BACKENDS: Final = {
    "model.pt": ('backend: "pytorch"',),
    "model.pt2": ('backend: "pytorch"', 'platform: "torch_aoti"'),
    "model.onnx": ('backend: "onnxruntime"',),
}


def model_config(
    file: str,
    metadata: ModelMetadata,
    *,
    max_batch: int = MAX_BATCH,
    queue_delay_us: int = QUEUE_DELAY_US,
    all_versions: bool = False,
) -> str:
    """Return the text of config.pbtxt (model_config.proto of Triton's common repository) for an exported file.

    The images are INPUT__0, the probabilities OUTPUT__0 with labels.txt beside them. A `.pt` takes uint8 images of
    any size, grey or colour; a `.pt2` and a `.onnx` take float32 in 0..1 with the network's own number of channels.
    Requests of one size are batched as they come, and two requests warm the model up before it counts as ready.
    The model's name is left to its folder, which may be renamed.

    Args:
        file: "model.pt", "model.pt2" or "model.onnx".
        metadata: of the export.
        max_batch: images of a batch.
        queue_delay_us: the longest wait for more requests, in microseconds.
        all_versions: every version is served, not only the newest.
    """
    grey = metadata.input.channels
    dtype, channels = ("TYPE_UINT8", -1) if file == "model.pt" else ("TYPE_FP32", grey)
    size = metadata.input.size
    lines = [
        *BACKENDS[file],
        f"default_model_filename: {_quoted(file)}",
        f"max_batch_size: {max_batch}",
        f'input [ {{ name: "INPUT__0" data_type: {dtype} dims: [ {channels}, -1, -1 ] }} ]',
        f'output [ {{ name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ {len(metadata.classes)} ] '
        'label_filename: "labels.txt" } ]',
        f"dynamic_batching {{ max_queue_delay_microseconds: {queue_delay_us} }}",
        *(_warmup(batch, dtype, (grey, size, size)) for batch in (1, max_batch)),
    ]
    if all_versions:
        lines.append("version_policy { all { } }")
    if file == "model.pt":
        # The profiling executor spends the first calls of every new size on compiling and gains nothing here.
        lines += [_parameter("INFERENCE_MODE", "true"), _parameter("DISABLE_OPTIMIZED_EXECUTION", "true")]
    return "\n".join(lines) + "\n"


def volume_model_config(metadata: VolumeMetadata) -> str:
    """Return config.pbtxt for the model.pt of a detection, as Triton runs it: a patch at a time.

    INPUT__0 holds patches as the network sees them, float32 in 0..1, and OUTPUT__0 their logits. labelassemble-serve
    answers whole volumes by the same file, whatever its tensors are called here.

    Args:
        metadata: of the export.
    """
    patch = ", ".join(map(str, metadata.patch))
    lines = [
        *BACKENDS["model.pt"],
        'default_model_filename: "model.pt"',
        f"max_batch_size: {VOLUME_BATCH}",
        f'input [ {{ name: "INPUT__0" data_type: TYPE_FP32 dims: [ 1, {patch} ] }} ]',
        f'output [ {{ name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ {len(metadata.classes)}, {patch} ] '
        'label_filename: "labels.txt" } ]',
        _warmup(1, "TYPE_FP32", (1, *metadata.patch)),
        _parameter("INFERENCE_MODE", "true"),
        _parameter("DISABLE_OPTIMIZED_EXECUTION", "true"),
    ]
    return "\n".join(lines) + "\n"


def decoder_config(
    metadata: ModelMetadata, *, max_batch: int = MAX_BATCH, queue_delay_us: int = QUEUE_DELAY_US
) -> str:
    """Return config.pbtxt of the DALI pipeline (`labelassemble.export.decoder`) for Triton's backend `dali`."""
    side = metadata.input.size
    lines = [
        'backend: "dali"',
        f"max_batch_size: {max_batch}",
        f'input [ {{ name: "{INPUT}" data_type: TYPE_UINT8 dims: [ -1 ] allow_ragged_batch: true }} ]',
        f'output [ {{ name: "{OUTPUT}" data_type: TYPE_UINT8 dims: [ {metadata.input.channels}, {side}, {side} ] }} ]',
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
        f"dynamic_batching {{ max_queue_delay_microseconds: {queue_delay_us} }}",
        'parameters [ { key: "num_threads" value { string_value: "2" } } ]',
    ]
    return "\n".join(lines) + "\n"


def ensemble_config(
    decoder: str, network: str, metadata: ModelMetadata, *, max_batch: int = MAX_BATCH
) -> str:
    """Return config.pbtxt of decoder and network one after the other: bytes of an image file -> probabilities."""
    lines = [
        'platform: "ensemble"',
        f"max_batch_size: {max_batch}",
        'input [ { name: "IMAGE" data_type: TYPE_UINT8 dims: [ -1 ] } ]',
        f'output [ {{ name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ {len(metadata.classes)} ] '
        'label_filename: "labels.txt" } ]',
        "ensemble_scheduling {",
        _step(decoder, {INPUT: "IMAGE"}, {OUTPUT: "pixels"}),
        _step(network, {"INPUT__0": "pixels"}, {"OUTPUT__0": "OUTPUT__0"}),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    maps = [("input_map", inputs), ("output_map", outputs)]
    entries = " ".join(
        f"{kind} {{ key: {_quoted(key)} value: {_quoted(value)} }}"
        for kind, pairs in maps
        for key, value in pairs.items()
    )
    return f"  step [ {{ model_name: {_quoted(model)} model_version: -1 {entries} }} ]"


def labels_text(classes: Sequence[str]) -> str:
    """Return labels.txt: a class a line, in the order of OUTPUT__0.

    Raises:
        LabelAssembleError: a name that cannot be a line of text.
    """
    return "".join(f"{check_class_name(name)}\n" for name in classes)


def _warmup(batch: int, dtype: str, dims: Sequence[int]) -> str:
    return (
        f'model_warmup [ {{ name: "batch of {batch}" batch_size: {batch} inputs {{ key: "INPUT__0" value {{ '
        f"data_type: {dtype} dims: [ {', '.join(map(str, dims))} ] zero_data: true }} }} }} ]"
    )


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"


def _quoted(text: str) -> str:
    """Return a string literal of protobuf's text format; bytes beyond ASCII stand for themselves."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
