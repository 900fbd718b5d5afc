"""What a network makes of an image: its pooled features, and where in the image a class comes from."""

from labelassemble.explain.features import captured_features, predict_with_features

__all__ = ["captured_features", "predict_with_features"]
