"""A run's masks as DICOM Segmentations."""

from collections.abc import Sequence
from pathlib import Path

from labelassemble._files import atomic_path, make_folder
from labelassemble.data.output_names import new_files
from labelassemble.errors import LabelAssembleError
from labelassemble.interoperability.segmentation import segmentation
from labelassemble.interoperability.source import StudySeries, highdicom, read_series_source
from labelassemble.run.calibration import calibration_in_use
from labelassemble.run.folder import load_segmenter
from labelassemble.run.prediction import model_statement
from labelassemble.run.segment import Answer, detection_options, drawn_classes
from labelassemble.views.volumes import to_stored


class Segmentations:
    """Masks of series written as DICOM, those of a study as one series."""

    def __init__(self, run: Path, volumes: Sequence[Path], folder: Path, *, overwrite: bool = False) -> None:
        """Read the headers of the series.

        Args:
            run: the folder of the run that draws.
            volumes: folders of DICOM slices, or single DICOM images.
            folder: to write into; made if need be.
            overwrite: whether segmentations of these names may be there already.

        Raises:
            ImageError: a folder holds no series.
            LabelAssembleError: one is no DICOM, a segmentation would lie among what is read or replace another one, or
                highdicom is missing.
        """
        highdicom()
        paths = [str(volume) for volume in volumes]
        for volume in volumes:
            if volume.is_dir() and folder.resolve() == volume.resolve():
                raise LabelAssembleError(
                    f"--dicom-seg {folder} is a series that is read: choose another folder"
                )
        files = new_files(paths, folder, ".dcm", overwrite=overwrite)
        self._files = dict(zip(paths, files, strict=True))
        self._slices = {path: read_series_source(path) for path in paths}
        self._classes = load_segmenter(run).net.classes
        self._model = model_statement(run, calibration_in_use(run))
        self._threshold = detection_options(run).threshold
        self._series = StudySeries()
        make_folder(folder)

    def write(self, path: str, answer: Answer) -> Path:
        """Write the mask of a volume, and return the file.

        Raises:
            LabelAssembleError: more than 255 classes, or headers that cannot stand in a segmentation.
        """
        file, slices = self._files[path], self._slices[path]
        maps = to_stored(answer.probabilities, answer.volume)
        if len(maps) > 255:
            raise LabelAssembleError(f"{file}: a mask has 255 classes at most, got {len(maps)}")
        mask = drawn_classes(maps, self._threshold)
        if mask.ndim == 2:  # a slice is a volume of one
            mask = mask[..., None]
        uid, number = self._series.next(slices[0])
        made = segmentation(
            mask,
            slices,
            self._classes,
            self._model,
            rules={
                "a voxel is drawn": f"at a probability of at least {self._threshold:g}, as its likeliest class"
            },
            path=path,
            series=uid,
            number=number,
        )
        with atomic_path(file) as new:
            made.save_as(new)
        return file
