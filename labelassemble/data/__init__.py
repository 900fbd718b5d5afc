"""Datasets that label different things, read as they are published and assembled into one table."""

from labelassemble.data.assemble import Assembly, assemble
from labelassemble.data.images import ImageError, decode_bytes, decode_image
from labelassemble.data.readers import (
    ChestXray14Source,
    CheXpertSource,
    CovidxSource,
    CsvSource,
    Source,
    SourceOptions,
)
from labelassemble.data.report import AssemblyReport
from labelassemble.data.splits import SplitOptions
from labelassemble.data.states import (
    NEGATIVE,
    POSITIVE,
    SMOOTH_TARGET,
    UNCERTAIN,
    UNKNOWN,
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
    "CovidxSource",
    "CsvSource",
    "ImageError",
    "LabelState",
    "Source",
    "SourceOptions",
    "SplitOptions",
    "Table",
    "Taxonomy",
    "UncertainPolicy",
    "assemble",
    "decode_bytes",
    "decode_image",
]
