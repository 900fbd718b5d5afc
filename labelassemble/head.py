"""ClassQueryHead: a classifier whose classes are learnable queries, so that classes can be added later."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from labelassemble import _extension
from labelassemble._class_name import check_class_list
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.functional import class_query_logits, pooled_class_query_logits
from labelassemble.growth import grow
from labelassemble.named_classes import NamedClasses


def _names(classes: int | Sequence[str]) -> list[str]:
    names = check_class_list(
        [f"class{index}" for index in range(classes)] if isinstance(classes, int) else classes
    )
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise LabelAssembleError(f"classes must differ, got {twice[0]!r} twice")
    return names


def _initial_weight(in_features: int, width: int) -> Tensor:
    """Return [D, K] with which one-hot queries start as the classifiers of nn.Linear(D, C) do.

    nn.Linear(K, D) would scale with K instead: with one class its classifiers would start sqrt(D) times larger.
    """
    bound = in_features**-0.5
    return torch.empty(in_features, width).uniform_(-bound, bound)


def _assign(parameter: Tensor, values: Tensor) -> None:
    if _extension.is_distributed(parameter):
        from labelassemble.ops.sharded import assign

        assign(parameter, values)
    else:
        parameter.copy_(values)


def _whole(parameter: Tensor) -> Tensor:
    """Return a parameter, whole where processes hold shards of it."""
    if _extension.is_distributed(parameter):
        from labelassemble.ops.sharded import whole

        return whole(parameter)
    return parameter


@torch.fx.wrap
def _rows(queries: Tensor, names: list[str], classes: list[str] | None) -> Tensor:
    """Return the queries of the classes asked for; one node of a graph of torch.fx, where `classes` is still open."""
    if classes is None:
        return queries
    for name in classes:
        if name not in names:
            raise LabelAssembleError(f"the head has no class {name!r}{did_you_mean(name, names)}")
    return queries[[names.index(name) for name in classes]]


class ClassQueryHead(NamedClasses):
    """Head in which one shared layer makes every class's classifier of its learnable query: W = Q A^T + b.

    Drop-in for nn.Linear(in_features, classes): features ``[*, D]`` to logits ``[*, C]``  (the "dynamic adapter" of
    arXiv 2109.12265, section 2.2). Queries start one-hot. Parameters: `queries` [C, K], `weight` [D, K] and
    `bias` [D] of the shared layer; an offset of each class's logit, as for a prior probability, is a module of its own
    behind the head. `classes` holds the names, in the order of the columns. The state dict holds them
    too: weights saved in another order are put in order by name, those of other classes are refused.

    Args:
        in_features: D, the length of a feature vector.
        classes: names of the classes, or their number (then named class0, class1, ...).
        query_dim: K, the length of a query, at least the number of classes and that number by default.
        device: of the parameters, as nn.Linear.
        dtype: of the parameters, as nn.Linear.

    Example:
        >>> import torch
        >>> from labelassemble.head import ClassQueryHead
        >>> head = ClassQueryHead(1024, ["Edema", "Nodule"])
        >>> features = torch.randn(16, 1024)
        >>> head(features).shape, head(features, classes=["Nodule"]).shape
        (torch.Size([16, 2]), torch.Size([16, 1]))
        >>> before = head(features)
        >>> head.add_classes(["COVID-19"])
        >>> head.classes
        ['Edema', 'Nodule', 'COVID-19']
        >>> torch.allclose(head(features)[:, :2], before, atol=1e-6)
        True
    """

    _weights_with_rows: ClassVar[tuple[str, ...]] = ("queries",)

    def __init__(
        self,
        in_features: int,
        classes: int | Sequence[str],
        query_dim: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1:
            raise LabelAssembleError(f"in_features must be at least 1, got {in_features}")
        self.in_features = in_features
        self.classes = _names(classes)
        width = len(self.classes) if query_dim is None else query_dim
        if width < len(self.classes):
            raise LabelAssembleError(
                f"query_dim must be at least the number of classes, {len(self.classes)}, got {query_dim}"
            )
        self.queries = nn.Parameter(torch.empty(len(self.classes), width, device=device, dtype=dtype))
        self.weight = nn.Parameter(torch.empty(in_features, width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(in_features, device=device, dtype=dtype))
        self.reset_parameters()

    @property
    def out_features(self) -> int:
        """C, the number of classes."""
        return len(self.classes)

    @torch.jit.unused
    def reset_parameters(self) -> None:
        """Begin anew, in place: one-hot queries, and classifiers as those of nn.Linear."""
        with torch.no_grad():
            _assign(self.queries, torch.eye(*self.queries.shape))
            _assign(self.weight, _initial_weight(*self.weight.shape))
            self.bias.zero_()

    def forward(
        self,
        features: Tensor,  # [*, D]
        classes: list[str] | None = None,
    ) -> Tensor:
        """Return the logits ``[*, C]`` of all classes, or of those named, in the order given."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            # The same products, so that a scripted head needs no library but torch.
            queries: Tensor = self.queries
            if classes is not None:
                queries = queries[[self.classes.index(name) for name in classes]]
            return F.linear(features, torch.addmm(self.bias, queries, self.weight.t()))
        else:
            return class_query_logits(features, self._queries_of(classes), self.weight, self.bias)

    @torch.jit.unused
    def from_feature_map(self, feature_map: Tensor, classes: list[str] | None = None) -> Tensor:
        """Return the logits [B, C] of a map [B, D, *spatial]: ReLU, average pooling, queries in one pass."""
        return pooled_class_query_logits(feature_map, self._queries_of(classes), self.weight, self.bias)

    @torch.jit.unused
    def _queries_of(self, classes: list[str] | None) -> Tensor:
        return _rows(self.queries, self.classes, classes)

    @torch.jit.unused
    def add_classes(self, names: Sequence[str]) -> None:
        """Add classes after the others, whose logits stay as they are.

        The parameters grow in place: an optimizer made before goes on training them, with zeros in its state where
        they are new. A network in DistributedDataParallel is to be wrapped anew, as that keeps buffers of their size.
        """
        classes = _names([*self.classes, *check_class_list(names, may_be_empty=True)])
        if _extension.is_distributed(self.queries):
            raise LabelAssembleError(
                "add_classes needs parameters that are whole, got DTensors: add classes before fully_shard or "
                "distribute_module"
            )
        old, width = self.queries.shape
        wider = max(width, len(classes))
        weight = _initial_weight(self.in_features, wider).to(self.weight)
        with torch.no_grad():
            # One-hot in a column of their own; old queries are 0 there, so that their logits do not change.
            queries = torch.eye(len(classes), wider).to(self.queries)
            queries[:old] = 0
            queries[:old, :width] = self.queries
            weight[:, :width] = self.weight
        grow(self.queries, queries)
        grow(self.weight, weight)
        self.classes = classes

    @torch.jit.unused
    def similarity(self) -> Tensor:
        """Return the cosine similarity [C, C] of the learned queries, without gradient."""
        directions = F.normalize(_whole(self.queries.detach()), dim=1)
        return directions @ directions.t()

    @torch.jit.unused
    def to_linear(self) -> nn.Linear:
        """Return nn.Linear(D, C, bias=False) with the same logits: queries folded in, for inference."""
        queries, weight, bias = (_whole(part) for part in (self.queries, self.weight, self.bias))
        linear = nn.Linear(self.in_features, len(self.classes), bias=False).to(weight)
        with torch.no_grad():
            linear.weight.copy_(torch.addmm(bias, queries, weight.t()))
        return linear

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, classes={self.classes}, query_dim={self.queries.shape[1]}"
