"""Where in an image a network finds evidence for a class."""

from labelassemble.explain.gradcam import HeatMaps, heat_maps
from labelassemble.explain.images import explained, write_heat_maps

__all__ = [
    "HeatMaps",
    "explained",
    "heat_maps",
    "write_heat_maps",
]
