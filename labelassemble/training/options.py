"""The `train` part of a configuration; the defaults are the paper's (section 3)."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PlateauOptions(BaseModel):
    """The learning rate is multiplied by `factor` after `patience` epochs without a lower validation loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    patience: Annotated[int, Field(ge=0)] = 5


class TrainOptions(BaseModel):
    """How long, how fast and from which seed to train.

    Attributes:
        epochs: at most this many.
        steps_per_epoch: steps that are called an epoch; None for one pass over the training images.
        batch_size: images a step.
        lr: Adam's learning rate at the start.
        weight_decay: Adam's L2 penalty.
        plateau: when the learning rate falls.
        early_stop: epochs without a lower validation loss (after warm-up) until training ends; None never ends early.
        seed: of initial weights, of the order of images and of every random view.
        device: "auto" takes CUDA where there is one.
        freeze_backbone: train the head alone; the backbone keeps its weights and its norms' statistics.
        freeze_known: with `--from RUN`, train the queries of the new classes alone: the answers for the classes that
            RUN knew stay what they are, bit for bit. Freezes the backbone too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Annotated[int, Field(ge=1)] = 64
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 16
    lr: Annotated[float, Field(gt=0.0)] = 2e-4
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    plateau: PlateauOptions = PlateauOptions()
    early_stop: Annotated[int, Field(ge=1)] | None = 10
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    freeze_backbone: bool = False
    freeze_known: bool = False

    @model_validator(mode="after")
    def _check_decay(self) -> Self:
        if self.freeze_known and self.weight_decay > 0:
            raise ValueError(
                f"weight_decay must be 0 with freeze_known, since it moves what is frozen, got {self.weight_decay:g}"
            )
        return self
