"""A run's answers as reports and captures for a hospital's systems, a file an image."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from labelassemble._files import atomic_path, make_folder, write_text
from labelassemble.data.output_names import named_after, new_files
from labelassemble.explain.images import Drawn
from labelassemble.explain.overlay import NO_PROOF, heat_figure
from labelassemble.interoperability import (
    SourceImage,
    diagnostic_report,
    read_source,
    secondary_capture,
    structured_report,
)
from labelassemble.interoperability.fhir import Release
from labelassemble.interoperability.source import StudySeries, highdicom
from labelassemble.interoperability.statement import class_answers
from labelassemble.run.calibration import calibration_in_use
from labelassemble.run.prediction import Answered, model_statement

_ENDINGS = {"--dicom-sr": ".dcm", "--fhir": ".json"}


def read_sources(
    images: Sequence[str], reports: Mapping[str, Path], *, overwrite: bool = False
) -> list[SourceImage]:
    """Return the headers of the images, [] where no report is asked for.

    Args:
        images: the N images.
        reports: folders by "--dicom-sr" and "--fhir".
        overwrite: whether reports of these names may be there already.

    Raises:
        ImageError: one cannot be read.
        LabelAssembleError: one is no DICOM, a report would replace it or another report, or highdicom is needed and
            not there.
    """
    if "--dicom-sr" in reports:
        highdicom()
    for option, folder in reports.items():
        # a mistake is told before anything is computed
        new_files(images, folder, _ENDINGS[option], overwrite=overwrite)
    return [read_source(image, next(iter(reports))) for image in images] if reports else []


def write_reports(
    run: Path,
    answered: Answered,
    sources: Sequence[SourceImage],
    reports: Mapping[str, Path],
    *,
    release: Release,
) -> Iterator[Path]:
    """Write the reports of each image, those of a study as one series, and yield each file.

    Args:
        run: the folder of the run.
        answered: its answers, calibrated.
        sources: the images.
        reports: as of `read_sources`.
        release: of FHIR.
    """
    model = model_statement(run, answered.calibration) if reports else None
    for option, folder in reports.items():
        assert model is not None
        make_folder(folder)
        series = StudySeries()
        files = named_after([source.path for source in sources], folder, _ENDINGS[option])
        for file, source, row in zip(files, sources, answered.probabilities, strict=True):
            answers = class_answers(row, answered.classes, answered.calibration)
            if option == "--fhir":
                report = diagnostic_report(source, answers, model, release=release)
                write_text(file, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
            else:
                uid, number = series.next(source.header)
                _save(structured_report(source, answers, model, series=uid, number=number), file)
            yield file


class Captures:
    """Heat maps as DICOM Secondary Captures, those of a study as one series."""

    def __init__(self, run: Path, images: Sequence[str], folder: Path, *, overwrite: bool = False) -> None:
        """Read the images' headers.

        Args:
            run: the folder of the run that explains them.
            images: DICOM images.
            folder: to write into.
            overwrite: whether captures of these names may be there already.

        Raises:
            ImageError: an image cannot be read.
            LabelAssembleError: one is no DICOM, a capture would replace it or another one, or highdicom is not there.
        """
        highdicom()
        self._model = model_statement(run, calibration_in_use(run))
        new_files(images, folder, ".dcm", overwrite=overwrite)
        self._sources = {image: read_source(image, "--dicom-sc") for image in images}
        self._series = StudySeries()

    def write(self, drawn: Drawn) -> Path:
        """Write the heat maps of an image, without the file's name, beside their PNG; return the file."""
        source, model = self._sources[drawn.path], self._model
        file = drawn.file.with_suffix(".dcm")
        title = f"For research use only, not for diagnosis\n{model.name}, labelassemble {model.version}"
        picture = io.BytesIO(heat_figure(title, drawn.pixels, drawn.shown))
        about = f"Grad-CAM heat maps of {', '.join(item.name for item in drawn.shown)}. {NO_PROOF}"
        uid, number = self._series.next(source.header)
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        _save(secondary_capture(pixels, source, model, about=about, series=uid, number=number), file)
        return file


def _save(data: Any, file: Path) -> None:
    with atomic_path(file) as new:
        data.save_as(new)
