"""What train.precision, channels_last, compile and cuda_graph mean where they are "auto": what is quicker there.

Measured: benchmarks/results/training_cpu.md (AVX-512 with bfloat16), training_precision_avx2.md, and on a GPU
training_nvidia-h200.md. Without torch, so that `doctor` can say it.
"""

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from labelassemble.processor import processor_flags

if TYPE_CHECKING:
    from labelassemble.training.options import TrainOptions

Precision = Literal["float32", "bfloat16", "float16"]

_BFLOAT16: Final = ("avx512_bf16", "amx_bf16")
_FLOAT16: Final = ("avx512_fp16", "amx_fp16")
_TENSOR_CORES: Final = (8, 0)  # the first GPUs that compute in bfloat16
# times float32 of a training step of DenseNet121 at 64 pixels on a processor that has neither
_SLOWER: Final = {"bfloat16": 9.1, "float16": 9.5}


class Speed(NamedTuple):
    """How the network is trained, and why.

    Attributes:
        precision: of the network.
        channels_last: order of images and convolutions.
        compile: by torch.compile.
        reason: of the precision, for the user.
        warning: about what was asked for; "" for none.
        cuda_graph: forward, loss and backward of a step are one CUDA graph.
    """

    precision: Precision
    channels_last: bool
    compile: bool
    reason: str
    warning: str = ""
    cuda_graph: bool = False

    def to_text(self) -> str:
        """Return the line that training begins with."""
        order = "channels last" if self.channels_last else "channels first"
        how = f"{', compiled' if self.compile else ''}{', a CUDA graph a step' if self.cuda_graph else ''}"
        return f"Trains in {self.precision}, {order}{how}: {self.reason}"


def choose_speed(
    options: "TrainOptions",
    *,
    gpu: tuple[int, int] | None = None,
    dense: bool = True,
    flags: frozenset[str] | None = None,
    processes: int = 1,
) -> Speed:
    """Return what the options ask for, or with "auto" what is quicker.

    Args:
        options: of the training.
        gpu: compute capability of the GPU that trains; None for the processor.
        dense: whether the backbone is a DenseNet of the published size, the only kind that was measured.
        flags: of the processor; default: of this one.
        processes: that train together.
    """
    flags = processor_flags() if flags is None else flags
    quick, reason = bfloat16_is_quicker(gpu, dense, flags)
    asked = options.precision
    if asked != "auto":
        reason = "train.precision asks for it"
    precision: Precision = asked if asked != "auto" else "bfloat16" if quick else "float32"
    channels_last = options.channels_last
    if channels_last == "auto":
        channels_last = dense and (gpu is None or quick)
    compiled = options.compile is True  # "auto" is never: compiling takes what 10,000 steps save
    obstacle = "" if options.cuda_graph is False else _no_graph(options, precision, gpu, processes)
    warnings = [_warning(asked, gpu, flags)]
    if obstacle and options.cuda_graph is True:
        warnings.append(f"train.cuda_graph=true makes no graph: {obstacle}")
    warning = "; ".join(text for text in warnings if text)
    return Speed(
        precision, channels_last, compiled, reason, warning, options.cuda_graph is not False and not obstacle
    )


def bfloat16_is_quicker(
    gpu: tuple[int, int] | None = None, dense: bool = True, flags: frozenset[str] | None = None
) -> tuple[bool, str]:
    """Return whether bfloat16 is quicker, and why or why not; the arguments are those of `choose_speed`."""
    flags = processor_flags() if flags is None else flags
    if gpu is not None:
        if gpu >= _TENSOR_CORES:
            return True, "the GPU computes bfloat16 in tensor cores"
        return False, f"the GPU (compute capability {gpu[0]}.{gpu[1]}) does not compute in bfloat16"
    if not any(flag in flags for flag in _BFLOAT16):
        return False, (
            "the processor has no bfloat16 (AVX-512 BF16, AMX); without it bfloat16 takes "
            f"{_SLOWER['bfloat16']:.1f} times as long"
        )
    if not dense:
        return False, "bfloat16 was measured for DenseNet121 alone"
    return True, "the processor has bfloat16, with which a step of DenseNet121 takes 0.56 of the time"


def _no_graph(
    options: "TrainOptions", precision: Precision, gpu: tuple[int, int] | None, processes: int
) -> str:
    """Return why a step cannot be a CUDA graph; "" where it can."""
    if gpu is None:
        return "the network trains on the processor"
    if processes > 1:
        return f"{processes} processes exchange gradients while they compute them"
    if options.accumulate > 1:
        return f"train.accumulate={options.accumulate} divides a step"
    if options.compile is True:
        return "train.compile=true makes its own kernels"
    if precision == "float16":
        return "the scale of float16 changes between steps"
    return ""


def _warning(asked: str, gpu: tuple[int, int] | None, flags: frozenset[str]) -> str:
    there = {"bfloat16": _BFLOAT16, "float16": _FLOAT16}.get(asked)
    if there is None:
        return ""
    if gpu is not None:
        slow = asked == "bfloat16" and gpu < _TENSOR_CORES
        return f"train.precision={asked} on a GPU that emulates it: float32 is quicker" if slow else ""
    if any(flag in flags for flag in there):
        return ""
    return (
        f"train.precision={asked} on a processor without it: a step took {_SLOWER[asked]:.1f} times as long as in "
        "float32 (benchmarks/results/training_precision_avx2.md); train.precision=auto takes what is quicker"
    )
