"""The `train` part of a configuration; the defaults are the paper's (section 3)."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class PlateauOptions(BaseModel):
    """When the learning rate falls.

    Attributes:
        factor: what it is multiplied by.
        patience: epochs without a lower validation loss after which it falls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    patience: Annotated[int, Field(ge=0)] = 5


def _check_sampling(value: Any) -> Any:
    """Return the option as it is, or raise a sentence about the whole of it, not about one of its forms."""
    if isinstance(value, dict):
        value = {name if isinstance(name, str) else str(name): share for name, share in value.items()}
        for name, share in value.items():
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
                raise ValueError(f"the share of '{name}' must be above 0 and at most 1, got {share!r}")
        if sum(value.values()) > 1 + 1e-9:
            raise ValueError(f"the shares must add up to 1 at most, got {sum(value.values()):g}")
        if value:
            return value
    if value not in ("auto", "shuffle", "balanced"):
        raise ValueError("must be auto, shuffle, balanced, or shares by source such as {clinic: 0.5}")
    return value


Sampling: TypeAlias = Annotated[
    Literal["auto", "shuffle", "balanced"] | dict[str, float], BeforeValidator(_check_sampling)
]


class TrainOptions(BaseModel):
    """How long, how fast and from which seed to train.

    Attributes:
        epochs: at most this many.
        steps_per_epoch: steps that are called an epoch; None for one pass over the training images.
        batch_size: images a step in all: of all processes and all parts together. Of fewer training images a batch
            repeats some, in views of their own; more than 1024 are refused there.
        accumulate: parts in which a process's images of a step go through the network, one after the other, their
            gradients added; a step takes less memory and means the same (BatchNorm takes the statistics of each part).
        sampling: "shuffle" takes every image once per pass; "balanced" gives every source an even share of each batch,
            so that an epoch, of as many steps, takes small sources several times and large ones in part; a mapping such
            as {clinic: 0.5} gives sources the share that it states, and the others what is left, evenly. "auto" is
            "balanced" where classes exclude each other and "shuffle" where none do: without that knowledge
            pseudo-labels gain nothing from balanced batches, or lose.
        lr: Adam's learning rate at the start.
        query_lr: learning rate of the class queries as a part of `lr`; 0 keeps them one-hot. Slow queries do not couple
            classes that share no images.
        weight_decay: Adam's L2 penalty.
        clip_norm: largest norm of the gradient of a step, all parameters together; None leaves it as it is.
        plateau: when the learning rate falls.
        early_stop: epochs without a lower validation loss (after warm-up) until training ends; None never ends early.
        ema: decay a step of an exponential moving average of the weights, which then is what is validated and kept as
            best; None for the weights themselves.
        precision: of the network in training; the loss, the weights and validation stay in float32. "auto" is bfloat16
            where it is quicker (GPUs of compute capability 8.0 or more; DenseNets on processors with AVX-512 BF16 or
            AMX), else float32; training begins with a line that says which, and why.
        channels_last: keep images and convolutions in channels-last order; "auto" where that is quicker.
        compile: let torch.compile translate the network for training; "auto" does not: on a CPU it takes minutes and
            saves a tenth of a step (benchmarks/results/training_precision_avx2.md).
        cuda_graph: run forward, loss and backward of a step as one CUDA graph, where a batch has a shape that has come
            before: the host launches one graph instead of thousands of kernels, for which a large GPU would wait.
            "auto" does so on a GPU where one process trains without accumulate, compile and float16; true warns where
            that is not so. A network that takes decisions in Python anew at each step needs false.
        checkpoint_every: steps after which last.pt is written within an epoch too; None for the end of epochs alone.
        trackers: trackers of experiments that get the curves too: "tensorboard" (event files in the run's folder),
            "mlflow" (mlflow.db there, or MLFLOW_TRACKING_URI) and "wandb" (offline there, unless WANDB_MODE says
            otherwise); each is an extra of that name.
        seed: of initial weights, of the order of images and of every random view.
        device: "auto" takes CUDA where there is one.
        freeze_backbone: train the head alone; the backbone keeps its weights and its norms' statistics.
        freeze_known: with `--from RUN`, train the queries of the new classes alone: the answers for the classes that
            RUN knew stay what they are, bit for bit. Freezes the backbone too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[int, Field(ge=1)] = 64
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 16
    accumulate: Annotated[int, Field(ge=1)] = 1
    sampling: Sampling = "shuffle"
    lr: Annotated[float, Field(gt=0.0)] = 2e-4
    query_lr: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    clip_norm: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    plateau: PlateauOptions = PlateauOptions()
    early_stop: Annotated[int, Field(ge=1)] | None = 10
    ema: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    cuda_graph: bool | Literal["auto"] = "auto"
    checkpoint_every: Annotated[int, Field(ge=1)] | None = None
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    freeze_backbone: bool = False
    freeze_known: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_tensorboard(cls, values: Any) -> Any:
        """Read `tensorboard: true`, which runs of earlier versions have, as the tracker of that name."""
        if not isinstance(values, dict) or "tensorboard" not in values:
            return values
        rest = {key: value for key, value in values.items() if key != "tensorboard"}
        if not isinstance(values["tensorboard"], bool):
            raise ValueError(f"tensorboard must be true or false, got {values['tensorboard']!r}")
        named = rest.get("trackers", ())
        if values["tensorboard"] and isinstance(named, (list, tuple)):  # else it is refused as any other
            rest["trackers"] = [*named, "tensorboard"]
        return rest

    @model_validator(mode="after")
    def _trackers_once(self) -> Self:
        if len(set(self.trackers)) < len(self.trackers):
            raise ValueError(f"trackers must name each once, got {', '.join(self.trackers)}")
        return self

    @model_validator(mode="after")
    def _parts_hold_images(self) -> Self:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate must be at most batch_size, got {self.accumulate} parts of {self.batch_size} images"
            )
        return self

    @model_validator(mode="after")
    def _check_decay(self) -> Self:
        if self.freeze_known and self.weight_decay > 0:
            raise ValueError(
                f"weight_decay must be 0 with freeze_known, since it moves what is frozen, got {self.weight_decay:g}"
            )
        return self
