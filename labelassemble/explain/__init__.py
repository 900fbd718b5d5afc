"""What a network makes of an image: its pooled features, and where in the image a class comes from."""

from labelassemble.explain.features import captured_features, predict_with_features
from labelassemble.explain.gradcam import HeatMaps, heat_maps
from labelassemble.explain.images import explained, write_heat_maps

__all__ = [
    "HeatMaps",
    "captured_features",
    "explained",
    "heat_maps",
    "predict_with_features",
    "write_heat_maps",
]
