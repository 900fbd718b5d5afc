"""An experiment's file: data, what is varied, sizes, seeds, model, training, and the tests to be made."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labelassemble.data import Source
from labelassemble.experiments.packed import PackedSource
from labelassemble.loss import LossOptions
from labelassemble.models.assemble_net import Head
from labelassemble.training.options import TrainOptions
from labelassemble.views.options import ViewOptions

Test = Literal["two-sample-t", "welch-t", "paired-t"]
Checkpoint = Literal["best", "last"]
Metric = Literal["auc", "mean_auc"]
Sees = Literal["whole", "border", "thumbnail"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
OptionsT = TypeVar("OptionsT", bound=BaseModel)


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Candidate = Annotated[Source | PackedSource, Field(discriminator="reader")]


class Dataset(_Options):
    """Where images come from.

    A label that is assumed (a source's `assume`) is one that nobody gave: it is what test images are held against, and
    neither trained on nor chosen by.

    Attributes:
        places: sources as a training configuration names them, paths relative to the data folder; the first that is at
            hand is taken.
        together: take all of them as one dataset of several sources. Of places with the same name the first that is at
            hand is taken, and every name must have one.
        download: what to do when none is, a sentence.
        shown: how tables call it; default: its key.
        classes: the classes that take part; default: all.
        validation: at most so many validation images, chosen once for all seeds; None for all.
        test: at most so many test images, likewise.
    """

    places: Annotated[tuple[Candidate, ...], Field(min_length=1)]
    download: str
    shown: str | None = None
    together: bool = False
    classes: tuple[str, ...] | None = None
    validation: Annotated[int, Field(ge=1)] | None = None
    test: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _packed_stands_alone(self) -> Self:
        for place in self.places:
            if self.together and isinstance(place, PackedSource):
                raise ValueError(
                    f"together joins tables of image files, but the reader of '{place.name}' is {place.reader}"
                )
        return self


class Part(_Options):
    """Training images that one place labels.

    Attributes:
        name: what arms call it.
        images: how many; a share of all training images, below 1; "size" for the size in hand; "all" for what the
            others leave.
        positives: how many of them show the class of interest; "size" for the size in hand, None as they come.
        times: with `positives: size` and `images: size`, images are this many times the size.
        labels: the classes that the place labels: "interest", "others" (all the others), "all", "other" (the one that
            is assembled in this job), or names.
        sources: the sources that its images come from, by name; of names that the dataset lacks nothing is taken, but
            it must have one of them. None for all.
    """

    name: Name
    images: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | Literal["size", "all"] = (
        "size"
    )
    positives: Annotated[int, Field(ge=1)] | Literal["size"] | None = None
    times: Annotated[int, Field(ge=1)] = 1
    labels: Literal["interest", "others", "all", "other"] | tuple[str, ...] = "all"
    sources: Annotated[tuple[str, ...], Field(min_length=1)] | None = None


class Arm(_Options):
    """One of the ways to train that are compared.

    Attributes:
        name: in file names and tables.
        title: in figures; default: the name.
        parts: the parts that it trains on; default: all.
        classes: the outputs of its network: "interest" alone, "all", or "pair" (interest and the one that is
            assembled).
        labels: what its images are labelled with: by what their parts label ("parts"), or by everything that the
            dataset knows of them ("all").
        criterion: the loss: the paper's, or "released", that of the authors' released code (`released_loss`).
        sees: what its network sees of every image: the "whole"; a "border" of an eighth of the side, the rest black; or
            a "thumbnail" of 8x8 pixels, enlarged again. What the last two reach is no reading of the image.
        model, loss, train: what differs from the experiment's.
    """

    name: Name
    title: str | None = None
    parts: tuple[str, ...] | None = None
    classes: Literal["interest", "all", "pair"] = "all"
    labels: Literal["parts", "all"] = "parts"
    criterion: Literal["paper", "released"] = "paper"
    sees: Sees = "whole"
    model: dict[str, Any] = {}
    loss: dict[str, Any] = {}
    train: dict[str, Any] = {}


class NetOptions(_Options):
    """The `model` part; "cnn_small" is for 28 to 64 pixels here, quick on a CPU, with a pooling more at 64.

    Attributes:
        backbone, head, pretrained: as `labelassemble train` has them; a part that is trained on is a source.
        queries: how the queries of the head "class_query" start: "one-hot" (the paper's), or "random": normal, each
            scaled to length 1.
        learn_queries: whether training changes them; the layer that turns them into classifiers is learned always.
    """

    backbone: Literal["cnn_small", "densenet_small", "densenet121"] = "cnn_small"
    head: Head = "class_query"
    pretrained: Path | None = None
    queries: Literal["one-hot", "random"] = "one-hot"
    learn_queries: bool = True

    @model_validator(mode="after")
    def _only_class_query_has_queries(self) -> Self:
        if self.head != "class_query" and (self.queries != "one-hot" or not self.learn_queries):
            raise ValueError(
                f"queries and learn_queries are of the head class_query, but the head is {self.head}"
            )
        return self


class Setting(_Options):
    """One dataset, with its class of interest where there is one.

    Attributes:
        name: in file names and tables.
        data: key of the dataset.
        interest: the class of interest; None where the metric is over all classes.
        others: classes that are assembled one at a time: names, or "each" of the rest; None for none.
        sizes: training sizes.
        views, train: what differs from the experiment's.
    """

    name: Name
    data: str
    interest: str | None = None
    others: Literal["each"] | tuple[str, ...] | None = None
    sizes: Annotated[tuple[Annotated[int, Field(ge=1)] | Literal["all"], ...], Field(min_length=1)]
    views: dict[str, Any] = {}
    train: dict[str, Any] = {}


class Comparison(_Options):
    """Two arms, the first minus the second, and the tests of their difference over seeds."""

    arms: tuple[str, str]
    tests: Annotated[tuple[Test, ...], Field(min_length=1)] = ("two-sample-t", "paired-t")


class Experiment(_Options):
    """A whole experiment.

    Attributes:
        title: what is asked.
        paper: what the paper reports, with where.
        figure: "sizes" (AUC over training sizes, a panel a setting), "sources" (likewise, and a panel a source within
            which it is defined), "similarity" (gain over the queries' cosine) or "arms" (a row an arm, a panel a
            setting).
        size_axis: what the sizes count, for figures.
        reference: the arm that the figure "arms" draws as a line; None for none.
        metric: what is measured on the test images, and on the validation images for the best checkpoint: "auc" of
            the class of interest, or "mean_auc", the mean over the classes, none of which is of special interest.
        checkpoint: of which epoch: "best" by the validation images, or "last".
        seeds: how many; each deals the images anew.
    """

    title: str
    paper: str
    figure: Literal["sizes", "sources", "similarity", "arms"] = "sizes"
    size_axis: str = "training images"
    reference: str | None = None
    metric: Metric = "auc"
    checkpoint: Checkpoint = "best"
    seeds: Annotated[int, Field(ge=1)] = 5
    datasets: dict[str, Dataset]
    settings: Annotated[tuple[Setting, ...], Field(min_length=1)]
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    arms: Annotated[tuple[Arm, ...], Field(min_length=1)]
    comparisons: tuple[Comparison, ...] = ()
    views: ViewOptions = ViewOptions()
    model: NetOptions = NetOptions()
    loss: LossOptions = LossOptions()
    train: TrainOptions = TrainOptions()

    def arm(self, name: str) -> Arm:
        """Return the arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)


def overlaid(options: OptionsT, changes: dict[str, Any]) -> OptionsT:
    """Return the options with some values changed, validated; a value that is a mapping changes single keys.

    Raises:
        ValidationError: an unknown key or a wrong value.
    """
    values = options.model_dump()
    for key, value in changes.items():
        inner = isinstance(value, dict) and isinstance(values.get(key), dict)
        values[key] = values[key] | value if inner else value
    return type(options).model_validate(values)
