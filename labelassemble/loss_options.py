"""The `loss` part of a configuration."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LossOptions(BaseModel):
    """The `loss:` section of a configuration: the loss's options and their schedule in epochs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(
        0.5, gt=0, lt=1, description="tau: probabilities above it are sharpened towards 1"
    )
    temperature: float = Field(4.0, ge=1, description="t: 1 makes hard pseudo-labels, .inf none")
    pseudo_weight: Weight = Field(1.0, description="weight of the pseudo-label term")
    consistency_weight: Weight = Field(1.0, description="weight of the consistency between the two views")
    warmup_epochs: int = Field(5, ge=0, description="epochs with known labels alone")
    ramp_epochs: int = Field(0, ge=0, description="epochs in which the two weights then rise to their values")
    min_positives: int = Field(
        0,
        ge=0,
        description="a class with fewer labelled positives gets no pseudo-labels; 0 gives them to all",
    )
    pos_weight: Literal["balanced"] | dict[str, Weight] | None = Field(
        None, description="weight of positives by class name, or balanced: negatives over positives"
    )
    class_weight: dict[str, Weight] | None = Field(None, description="weight of every term by class name")
    detach_target: bool = Field(True, description="take pseudo-labels as constants in the gradient")
    strong_known: bool = Field(
        False, description="known labels learn from the strong view as well, half and half with the weak one"
    )
    known_mean: Literal["entry", "class"] = Field(
        "entry",
        description="the cross-entropy is the mean over all known labels, or over those of each class and then over "
        "the classes",
    )
    dice_weight: Weight = Field(
        0.0,
        description="for masks, 1 by default with `volumes`: weight of 1 - Dice of the probabilities over a batch's "
        "known voxels, the mean over the classes that have any; with train.accumulate it is that of each part",
    )
    exclusive: bool = Field(
        False,
        description="where classes exclude each other (taxonomy, sources' exclusive), the pseudo-label of a class is 0 "
        "if one that excludes it is present",
    )
