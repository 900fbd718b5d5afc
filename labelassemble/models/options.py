"""The `model` part of a configuration."""

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ImageBackbone = Literal[
    "densenet121", "densenet169", "densenet201", "densenet_small", "cnn_small", "cnn_small_64", "patch_small"
]
VoxelBackbone = Literal["dynunet", "dynunet_small", "segresnet", "swin_unetr"]
Backbone = ImageBackbone | VoxelBackbone
Head = Literal["class_query", "linear", "multi_network", "source_heads", "task_code"]
Queries = Literal["one-hot", "random"]

HEADS_BY_SOURCE: Final = ("multi_network", "source_heads")
"""The heads that answer an image in training only for the classes that its source labels."""


class ModelOptions(BaseModel):
    """The `model` part of a configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Backbone = Field(
        "densenet121",
        description="densenet121 is the paper's; densenet_small is for 16 to 64 pixels, cnn_small for 8 to 64, quick "
        "on a CPU, cnn_small_64 the same with a pooling more, for 64, patch_small the demo's; with `volumes` it "
        "is one of MONAI's: dynunet (the default there), dynunet_small (for slices of 64 to 128 pixels on a CPU), "
        "segresnet or swin_unetr",
    )
    head: Head = Field(
        "class_query",
        description="class_query is the paper's; linear, multi_network (a network a source), source_heads (a head a "
        "source, as Med3D) and task_code (as DoDNet) are what it is compared with",
    )
    queries: Queries = Field(
        "one-hot",
        description="how the queries of the head class_query start: one-hot is the paper's; random ones are normal, "
        "each scaled to length 1 (train.query_lr=0 keeps them)",
    )
    pretrained: Path | None = Field(
        None,
        description="weights of the backbone: best.pt of a run, or a file in torchvision's format; for ImageNet's set "
        "views.channels 3, views.mean [0.485, 0.456, 0.406] and views.std [0.229, 0.224, 0.225]",
    )

    @model_validator(mode="after")
    def _only_class_query_has_queries(self) -> Self:
        if self.head != "class_query" and self.queries != "one-hot":
            raise ValueError(f"queries are of the head class_query, but the head is {self.head}")
        return self
