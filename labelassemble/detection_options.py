"""How a detection is evaluated: what a found lesion is, and what a patient's score is."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

PER_CASE: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False alarms per case at which the share of found lesions is given."""


class DetectionOptions(BaseModel):
    """How a detection is evaluated.

    Attributes:
        threshold: voxels of at least this probability make the predicted mask; its connected components (voxels that
            share a face, an edge or a corner) are the predicted lesions, each with its highest probability as score.
        hit: when a predicted lesion finds a drawn one: "iou", their intersection over union is at least `least_iou`;
            "any", they share a voxel. One predicted lesion finds at most one drawn lesion.
        least_iou: for `hit: iou`; 0.1 is that of the PI-CAI and PANORAMA challenges.
        patient_score: of a class: "mean" over all slices of a patient, or the "maximum", of the slices' scores; the
            score of a slice is the mean of its `top` share of voxels.
        top: share of a slice's voxels, those of the highest probability, at least one voxel.
        tolerance: of the surface distance, in mm; in voxels where the spacing is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    hit: Literal["iou", "any"] = "iou"
    least_iou: Annotated[float, Field(gt=0, le=1)] = 0.1
    patient_score: Literal["mean", "maximum"] = "mean"
    top: Annotated[float, Field(gt=0, le=1)] = 0.01
    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0

    @property
    def rule(self) -> str:
        """When a lesion is found, in words."""
        if self.hit == "any":
            return "they share a voxel"
        return f"their intersection over union is at least {self.least_iou:g}"

    @property
    def score(self) -> str:
        """What the scale of the patients' scores depends on, such as "patient_score=mean, top=0.01"."""
        return f"patient_score={self.patient_score}, top={self.top}"

    @property
    def aggregate(self) -> str:
        """What a patient's score is, in words."""
        how = "mean over all slices" if self.patient_score == "mean" else "maximum over all slices"
        return f"the {how} of the mean of a slice's highest {100 * self.top:g}% of voxels"
