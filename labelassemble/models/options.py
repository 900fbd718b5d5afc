"""The `model` part of a configuration."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    field_validator,
    model_validator,
)

ImageBackbone = Literal[
    "densenet121", "densenet169", "densenet201", "densenet_small", "cnn_small", "cnn_small_64", "patch_small"
]
VoxelBackbone = Literal["dynunet", "dynunet_small", "segresnet", "swin_unetr"]
Backbone = ImageBackbone | VoxelBackbone
Library = Literal["timm", "torchvision", "monai", "torchxrayvision"]
Head = Literal["class_query", "linear", "multi_network", "source_heads", "task_code"]
Queries = Literal["one-hot", "random"]

HEADS_BY_SOURCE: Final = ("multi_network", "source_heads")
"""The heads that answer an image in training only for the classes that its source labels."""


class LibraryBackbone(BaseModel):
    """A backbone of another library, by the name that it has there.

    The values that it takes are its library's: `views.mean` and `views.std` are those of its weights' own description
    where the configuration leaves them out.

    Attributes:
        library: "timm", "torchvision", "monai" or "torchxrayvision"; each is an extra, imported when it is named.
        name: of the network in its library, such as resnet18 (timm), densenet121 (torchvision), DenseNet121 (monai) or
            densenet121-res224-all (torchxrayvision).
        pretrained: true downloads the library's own weights; a file holds a state dict with the library's names (of
            torch, or *.safetensors), or is best.pt of a run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    library: Library
    name: str
    pretrained: StrictBool | Path | None = None

    @field_validator("pretrained", mode="before")
    @classmethod
    def _true_or_a_file(cls, value: object) -> object:
        if value is not None and not isinstance(value, (bool, str, Path)):
            raise ValueError("it must be true, or a file of weights")
        return value

    def __str__(self) -> str:
        return f"{self.library}'s {self.name}"


def _kind_of_backbone(value: object) -> str:
    return "LibraryBackbone" if isinstance(value, (dict, LibraryBackbone)) else "name"


AnyBackbone = Annotated[
    Annotated[Backbone, Tag("name")] | Annotated[LibraryBackbone, Tag("LibraryBackbone")],
    Discriminator(_kind_of_backbone),
]


class ModelOptions(BaseModel):
    """The `model` part of a configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backbone: AnyBackbone = Field(
        "densenet121",
        description="densenet121 is the paper's; densenet_small is for 16 to 64 pixels, cnn_small for 8 to 64, quick "
        "on a CPU, cnn_small_64 the same with a pooling more, for 64, patch_small the demo's; with `volumes` it "
        "is one of MONAI's: dynunet (the default there), dynunet_small (for slices of 64 to 128 pixels on a CPU), "
        "segresnet or swin_unetr; or one of another library, {library: timm, torchvision, monai or torchxrayvision, "
        "name: ..., pretrained: true or a file}, see [backbones](../howto/backbones.md)",
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

    @model_validator(mode="after")
    def _one_place_for_weights(self) -> Self:
        if isinstance(self.backbone, LibraryBackbone) and self.pretrained is not None:
            raise ValueError(
                f"weights of {self.backbone} belong into model.backbone.pretrained, and model.pretrained is for the "
                f"backbones of labelassemble, got {self.pretrained}"
            )
        return self

    def without_weights(self) -> "ModelOptions":
        """Return the same network without the file that it starts from: with it, one trained can be built again."""
        backbone = self.backbone
        if isinstance(backbone, LibraryBackbone):
            backbone = backbone.model_copy(update={"pretrained": None})
        return self.model_copy(update={"backbone": backbone, "pretrained": None})
