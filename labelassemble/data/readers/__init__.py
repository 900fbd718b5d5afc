"""One reader a file: each takes a dataset exactly as its publisher ships it and returns its `Table`."""

from typing import Annotated, TypeAlias

from pydantic import Field

from labelassemble.data.readers.chestxray14 import ChestXray14Source
from labelassemble.data.readers.chexpert import CheXpertSource
from labelassemble.data.readers.covidx import CovidxSource
from labelassemble.data.readers.csv import CsvSource
from labelassemble.data.readers.options import SourceOptions

Source: TypeAlias = Annotated[
    CsvSource | ChestXray14Source | CheXpertSource | CovidxSource,
    Field(discriminator="reader"),
]
"""A source of a configuration: the key `reader` says which."""

__all__ = ["CheXpertSource", "ChestXray14Source", "CovidxSource", "CsvSource", "Source", "SourceOptions"]
