"""What every source can be told, whatever its reader."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from labelassemble.data.class_groups import class_groups
from labelassemble.data.decoding import Orientation
from labelassemble.data.identifiers import IdRule
from labelassemble.data.states import UncertainPolicy
from labelassemble.data.subgroups import SubgroupCells, SubgroupColumn

AssumedLabel: TypeAlias = Literal["negative", "positive"]
SplitName: TypeAlias = Literal["train", "val", "test"]


def _expanded(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path must not contain NUL characters")
    try:
        return path.expanduser()
    except RuntimeError as error:  # ~nobody
        raise ValueError(str(error)) from None


FilePath: TypeAlias = Annotated[Path, AfterValidator(_expanded)]
"""A path in a configuration: `~` is the home folder, a relative one starts at the configuration's folder."""


def _exclusive(value: object) -> object:
    words = ("all", "patient", "voxel")
    if value is None or value in words:
        return value
    return class_groups(value, instead="all, patient, voxel, or ")


ExclusiveOption: TypeAlias = Annotated[
    Literal["all", "patient", "voxel"] | tuple[tuple[str, ...], ...] | None, BeforeValidator(_exclusive)
]


class SourceOptions(BaseModel):
    """The options that all readers share; `assemble` applies them after reading.

    Attributes:
        name: What the source is called in tables and reports; one source a name.
        assume: Classes that nobody labelled in this source and what they are taken to be: ChestX-ray14 is older than
            COVID-19, so {"COVID-19": "negative"}. Fills UNKNOWN only and is marked as assumed.
        exclusive: "all" where each image has one class at most of all that the table has (MNIST, CIFAR-10,
            HAM10000), or groups of classes of which that is true: a positive label makes the others known negatives
            for the images of this source, also those that it never labels. Marked as assumed. "patient": each patient
            has one class at most, so that a positive label counts for all images of the patient. "voxel": a case may
            have several classes, but a voxel one at most: where its mask draws one, the others are absent. What holds
            in every source belongs into the taxonomy.
        uncertain: What an UNCERTAIN label becomes in training, by class, "default" for all others.
        limit: At most so many images, chosen by a hash of the seed and the name.
        hide: Classes whose labels are taken away on purpose; what they were is kept aside in `Assembly.hidden`.
        labelled: Number of training images, by class, that keep their label of that class; the others lose it as with
            `hide`. Chosen by a hash of the seed and the name: a greater number keeps all that a lesser one does.
        bits: How many bits the grey values of images with more than 8 bits have, where their files do not say so: 12
            for values of 0 to 4095 in 16-bit PNGs, or in DICOM files with a wrong BitsStored. A greater value is an
            error. Travels behind the paths of the table (`a.png::bits=12`).
        orientation: "exif" turns images as their EXIF orientation says; "ignore" leaves them as they are stored, where
            the tag is wrong. Travels like `bits`.
        split: Puts all rows into one split.
        patients: The register that the patient ids belong to; two sources that name the same one share their patients.
            Without it a patient id means nothing outside its source.
        ids: When two patient ids are the same. A word for a missing one ("unknown", "nan", "N/A", "-") is always blank:
            such an image is a group of its own. "auto": spaces around an id do not count, and 13, 0013, 13.0 and
            1.3E+01 are one number; it is an error if the source itself writes a number in two of these ways. "numbers":
            they are one then too. "text": zeros and ".0" count, spaces do not. "exact": everything counts, and no word
            is blank. Sources that share `patients` must have the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]
    assume: dict[str, AssumedLabel] = {}
    exclusive: ExclusiveOption = None
    uncertain: dict[str, UncertainPolicy] = {}
    limit: Annotated[int, Field(ge=1)] | None = None
    hide: tuple[str, ...] = ()
    labelled: dict[str, Annotated[int, Field(ge=0)]] = {}
    bits: Annotated[int, Field(ge=8, le=16)] | None = None
    orientation: Orientation = "exif"
    split: SplitName | None = None
    patients: Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")] | None = None
    ids: IdRule = "auto"

    @property
    def register(self) -> str:
        """The register that the patient ids belong to: `patients`, or else the source's own."""
        return self.patients or self.name


def _columns(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {name: {"column": item} if isinstance(item, str) else item for name, item in value.items()}


class TabularOptions(SourceOptions):
    """The options that the readers of tables share.

    Attributes:
        subgroup_columns: Where the table has the `subgroups` of the configuration, by name: the column, or a mapping
            of `column`, `values` (what its cells mean where they are codes) and `unit` (of ages: years, months, weeks
            or days). By default the publisher's column, or one of the subgroup's own name.
    """

    subgroup_columns: Annotated[dict[str, SubgroupColumn], BeforeValidator(_columns)] = {}

    def subgroup_cells(self, wanted: Sequence[str]) -> SubgroupCells:
        """Return what collects the `wanted` subgroups while the table is read."""
        return SubgroupCells(wanted, self.subgroup_columns)
