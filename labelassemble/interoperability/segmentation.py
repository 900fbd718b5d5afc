"""A DICOM Segmentation of a series: the mask that a network draws, on the slices that it was drawn on."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from labelassemble._quiet import quiet
from labelassemble.errors import LabelAssembleError
from labelassemble.interoperability.source import UTF_8, dicom_codes, highdicom
from labelassemble.interoperability.statement import ModelStatement, equipment, long_string
from labelassemble.interoperability.structured_report import concept

SERIES_NUMBER: Final = 9903
_CATEGORY: Final = ("class", "Class of a model")


def segmentation(
    mask: NDArray[np.uint8],  # [rows, columns, slices]
    slices: Sequence[Any],
    classes: Sequence[str],
    model: ModelStatement,
    *,
    rules: Mapping[str, str],
    path: str,
    series: str,
    number: int,
) -> Any:
    """Return a pydicom Dataset, ready to be saved: a binary segment for each class, on the slices where it is drawn.

    Patient, study, frame of reference and places are those of the slices, each of which is named as the source of its
    frames.

    Args:
        mask: the number of the class from 1 on, 0 elsewhere.
        slices: the header of each slice, as `read_series_source` returns them.
        classes: by their number.
        model: that drew it.
        rules: what else is said of how it was drawn.
        path: of the series, as errors name it.
        series: the Series Instance UID of the segmentation.
        number: of the segmentation in the series, from 1 on.

    Raises:
        LabelAssembleError: highdicom is not installed, or the headers cannot stand in a segmentation.
    """
    hd = highdicom()
    said = dict(line.split("=", 1) for line in model.lines) | dict(rules)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=long_string(f"labelassemble: {model.name}"),
        family=dicom_codes().DCM.ArtificialIntelligence,
        version=model.version,
        parameters=said,
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=index,
            segment_label=long_string(name),
            segmented_property_category=concept(_CATEGORY),
            segmented_property_type=concept((name, name)),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=hd.UID(),
            tracking_id=name,
        )
        for index, name in enumerate(classes, start=1)
    ]
    with quiet("highdicom", logging.CRITICAL):
        try:
            return hd.seg.Segmentation(
                source_images=list(slices),
                pixel_array=np.ascontiguousarray(np.moveaxis(mask, 2, 0)),
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=series,
                series_number=SERIES_NUMBER,
                sop_instance_uid=hd.UID(),
                instance_number=number,
                **equipment(model),
                content_description="For research use only, not for diagnosis",
                content_label="RESEARCH",
                content_qualification=hd.ContentQualificationValues.RESEARCH,
                specific_character_set=UTF_8,
            )
        except ValueError as error:
            raise LabelAssembleError(
                f"{path}: no segmentation can be made of its headers ({error})"
            ) from None
