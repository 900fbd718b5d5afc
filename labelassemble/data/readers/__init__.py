"""One reader a file: each takes a dataset exactly as its publisher ships it and returns its `Table`."""

from typing import Annotated, TypeAlias

from pydantic import Field

from labelassemble.data.readers.chestxray14 import ChestXray14Source
from labelassemble.data.readers.chexpert import CheXpertSource
from labelassemble.data.readers.cifar10 import Cifar10Source
from labelassemble.data.readers.covidx import CovidxSource
from labelassemble.data.readers.csv import CsvSource
from labelassemble.data.readers.dicom import DicomSource
from labelassemble.data.readers.medmnist import MedMnistSource
from labelassemble.data.readers.mimic import MimicCxrSource
from labelassemble.data.readers.mnist import MnistSource
from labelassemble.data.readers.npz import NpzSource
from labelassemble.data.readers.options import SourceOptions
from labelassemble.data.readers.padchest import PadChestSource
from labelassemble.data.readers.vindr import VinDrCxrSource
from labelassemble.data.readers.volumes import VolumesSource
from labelassemble.data.readers.webdataset import WebDatasetSource

Source: TypeAlias = Annotated[
    CsvSource
    | DicomSource
    | WebDatasetSource
    | ChestXray14Source
    | CheXpertSource
    | CovidxSource
    | MimicCxrSource
    | PadChestSource
    | VinDrCxrSource
    | MedMnistSource
    | MnistSource
    | Cifar10Source
    | NpzSource
    | VolumesSource,
    Field(discriminator="reader"),
]
"""A source of a configuration: the key `reader` says which."""

__all__ = [
    "CheXpertSource",
    "ChestXray14Source",
    "Cifar10Source",
    "CovidxSource",
    "CsvSource",
    "DicomSource",
    "MedMnistSource",
    "MimicCxrSource",
    "MnistSource",
    "NpzSource",
    "PadChestSource",
    "Source",
    "SourceOptions",
    "VinDrCxrSource",
    "VolumesSource",
    "WebDatasetSource",
]
