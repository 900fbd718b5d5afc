"""The augmentation options: what the weak and the strong view of an image may change, and how much."""

import os
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labelassemble.views.augmentation_list import FORM, LIST, OPTIONS, AugmentationList

if TYPE_CHECKING:
    from labelassemble.views.preprocess import Preprocess

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Strength = Annotated[float, Field(ge=0.0)]


class WeakOptions(BaseModel):
    """The weak view (paper, section 3): small changes of geometry and light noise.

    Attributes:
        flip: probability of a horizontal flip. 0 forbids it (a mirrored chest is a different finding).
        rotate: largest angle, in degrees; drawn uniformly from [-rotate, rotate].
        noise: standard deviation of additive Gaussian noise, in units of the value range 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: Probability = 0.5
    rotate: Annotated[float, Field(ge=0.0, le=180.0)] = 10.0
    noise: Strength = 0.01


class StrongOptions(BaseModel):
    """The strong view: larger changes, and parts of the image lost.

    Attributes:
        flip: probability of a horizontal flip.
        rotate: largest angle, in degrees.
        noise: standard deviation of additive Gaussian noise, in units of the value range 0..1.
        salt_pepper: share of the pixels that become black or white, half each.
        brightness: factor drawn uniformly from [1 - brightness, 1 + brightness].
        contrast: factor about the image's mean, drawn likewise.
        saturation: factor about the grey image, drawn likewise; without effect on grey images.
        erase: probability that one rectangle is replaced by noise.
        erase_area: smallest and largest share of the image that the rectangle covers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    flip: Probability = 0.5
    rotate: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    noise: Strength = 0.05
    salt_pepper: Probability = 0.02
    brightness: Probability = 0.2
    contrast: Probability = 0.2
    saturation: Probability = 0.2
    erase: Probability = 0.5
    erase_area: tuple[Probability, Probability] = (0.02, 0.2)

    @model_validator(mode="after")
    def _check_area(self) -> Self:
        if self.erase_area[0] > self.erase_area[1]:
            raise ValueError(f"erase_area must go from small to large, got {list(self.erase_area)}")
        return self


Weak: TypeAlias = Annotated[Annotated[WeakOptions, OPTIONS] | Annotated[AugmentationList, LIST], FORM]
Strong: TypeAlias = Annotated[Annotated[StrongOptions, OPTIONS] | Annotated[AugmentationList, LIST], FORM]


class ViewOptions(BaseModel):
    """The `views` part of a configuration.

    Attributes:
        backend: what makes the views: "torch", "dali", or "auto" for the quickest that can run.
        size: height and width of a view, in pixels.
        channels: channels of a view, 1 (grey) or 3 (colour).
        mean: subtracted from values in 0..1, one for all channels or one each.
        std: divides after that.
        weak: the weak view: the options of the built-in policy below, or a list of classes of kornia.augmentation with
            their arguments, such as [{RandomAffine: {degrees: 10}}], applied in this order.
        strong: the strong view, likewise.
        cache_mb: decoded and resized images are kept in memory up to this many MiB (torch backend); 0 decodes each
            time.
        threads: threads that decode; None for as many as there are processors. The views do not depend on it.
        bad_files: what a file that is missing, cut off or damaged does: "skip" leaves it out of its batch and names
            it, "stop" ends the run.
        bad_files_limit: with "skip", the largest share of bad files, above which the run stops with a list of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backend: Literal["auto", "torch", "dali"] = "auto"
    size: Annotated[int, Field(ge=8, le=4096)] = 224
    channels: Literal[1, 3] = 1
    mean: tuple[float, ...] = (0.5,)
    std: tuple[Annotated[float, Field(gt=0.0)], ...] = (0.25,)
    weak: Weak = WeakOptions()
    strong: Strong = StrongOptions()
    cache_mb: Annotated[int, Field(ge=0)] = 1024
    threads: Annotated[int, Field(ge=1)] | None = None
    bad_files: Literal["skip", "stop"] = "skip"
    bad_files_limit: Probability = 0.01

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name} must have 1 or {self.channels} values, got {len(values)}")
        return self

    @model_validator(mode="after")
    def _check_backend(self) -> Self:
        for name, view in (("weak", self.weak), ("strong", self.strong)):
            if self.backend == "dali" and isinstance(view, tuple):
                raise ValueError(
                    f"backend must be torch or auto where {name} is a list: DALI knows none of kornia's"
                )
        return self

    def decoders(self) -> int:
        """Return the number of threads that decode."""
        return self.threads or len(os.sched_getaffinity(0))

    def preprocess(self) -> "Preprocess":
        """Return the deterministic view of these options."""
        from labelassemble.views.preprocess import Preprocess  # which imports torch

        return Preprocess(self.channels, self.size, self.mean, self.std)
