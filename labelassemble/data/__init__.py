"""Datasets that label different things, read as they are published and assembled into one table."""

from labelassemble.data.assemble import Assembly, assemble
from labelassemble.data.check import ImageCheck, check_images, missing_files, missing_text
from labelassemble.data.duplicates import DuplicateSearch
from labelassemble.data.errors import ImageError
from labelassemble.data.exclusion import Exclusions
from labelassemble.data.images import decode_bytes, decode_image
from labelassemble.data.readers import (
    ChestXray14Source,
    CheXpertSource,
    Cifar10Source,
    CovidxSource,
    CsvSource,
    DicomSource,
    MedMnistSource,
    MimicCxrSource,
    MnistSource,
    NpzSource,
    PadChestSource,
    Source,
    SourceOptions,
    VinDrCxrSource,
    VolumesSource,
    WebDatasetSource,
)
from labelassemble.data.report import AssemblyReport
from labelassemble.data.splits import SplitOptions
from labelassemble.data.states import (
    NEGATIVE,
    POSITIVE,
    SMOOTH_TARGET,
    UNCERTAIN,
    UNKNOWN,
    LabelOrigin,
    LabelState,
    UncertainPolicy,
)
from labelassemble.data.table import SPLITS, Table
from labelassemble.data.taxonomy import Taxonomy

__all__ = [
    "NEGATIVE",
    "POSITIVE",
    "SMOOTH_TARGET",
    "SPLITS",
    "UNCERTAIN",
    "UNKNOWN",
    "Assembly",
    "AssemblyReport",
    "CheXpertSource",
    "ChestXray14Source",
    "Cifar10Source",
    "CovidxSource",
    "CsvSource",
    "DicomSource",
    "DuplicateSearch",
    "Exclusions",
    "ImageCheck",
    "ImageError",
    "LabelOrigin",
    "LabelState",
    "MedMnistSource",
    "MimicCxrSource",
    "MnistSource",
    "NpzSource",
    "PadChestSource",
    "Source",
    "SourceOptions",
    "SplitOptions",
    "Table",
    "Taxonomy",
    "UncertainPolicy",
    "VinDrCxrSource",
    "VolumesSource",
    "WebDatasetSource",
    "assemble",
    "check_images",
    "decode_bytes",
    "decode_image",
    "missing_files",
    "missing_text",
]
