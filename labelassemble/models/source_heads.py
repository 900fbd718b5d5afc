"""SourceHeads: one linear head a source, each for the classes that its source labels (Med3D)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.named_classes import NamedClasses


class SourceHeads(NamedClasses):
    """One linear head a source: features [B, D] to logits [B, C].

    The multi-head design of Med3D (Chen et al. 2019, arXiv 1904.00625: one encoder, a decoder a dataset), for
    classification. Given the images' sources, each image is answered by the head of its own source alone; its other
    logits are 0, a constant without gradient, so that such a network learns from known labels only. Without sources
    a class's logit is the mean over the heads of the sources that label it.

    The heads lie in one layer, `linear` [T, D], a row for each of the T pairs of a source and a class that it
    labels, and start as nn.Linear(D, classes of the source) does.

    Args:
        in_features: D, the length of a feature vector.
        classes: names of the C classes, in the order of the columns.
        sources: the classes that each source labels, by its name; an image's source is its place in this order.
        separate_features: features are [B, S * D], a part of length D for each of the S sources' heads.

    Raises:
        LabelAssembleError: a source labels an unknown class, or a class is labelled by no source.

    Example:
        >>> import torch
        >>> from labelassemble.models.source_heads import SourceHeads
        >>> head = SourceHeads(8, ["Edema", "COVID-19"], {"nih": ["Edema"], "covidx": ["COVID-19"]})
        >>> head(torch.ones(2, 8), torch.tensor([0, 1])).ne(0)
        tensor([[ True, False],
                [False,  True]])
    """

    _weights_with_rows = ("linear.weight", "linear.bias")

    source_of: Tensor
    class_of: Tensor
    share: Tensor

    def __init__(
        self,
        in_features: int,
        classes: Sequence[str],
        sources: Mapping[str, Sequence[str]],
        *,
        separate_features: bool = False,
    ) -> None:
        super().__init__()
        pairs = [(source, name) for source, names in sources.items() for name in names]
        for source, name in pairs:
            if name not in classes:
                raise LabelAssembleError(
                    f"source '{source}' labels the unknown class '{name}'{did_you_mean(name, classes)}"
                )
        labelled = [name for _, name in pairs]
        for name in classes:
            if name not in labelled:
                raise LabelAssembleError(
                    f"a head for each source cannot answer '{name}': no source labels it for training, so "
                    "leave it out of `classes`, or choose model.head=class_query"
                )
        order = list(sources)
        self.classes = list(classes)
        self.pairs = [f"{source}: {name}" for source, name in pairs]
        self.num_classes = len(classes)
        self.num_sources = len(order)
        self.in_features = in_features
        self.separate_features = separate_features
        self.linear = nn.Linear(in_features, len(pairs))
        # All of it follows from the names, so none of it is in the state dict.
        for name, values in (
            ("source_of", torch.tensor([order.index(source) for source, _ in pairs])),
            ("class_of", torch.tensor([list(classes).index(name) for _, name in pairs])),
            ("share", torch.tensor([1.0 / labelled.count(name) for name in labelled])),
        ):
            self.register_buffer(name, values, persistent=False)

    def forward(
        self,
        features: Tensor,  # [B, D]
        sources: Tensor | None = None,  # int64 [B], -1 = a source without a head
    ) -> Tensor:
        """Return the logits [B, C]: of each image's own head, or without sources the mean over the heads."""
        answers = F.linear(features, self._rows(), self.linear.bias)  # [B, T]
        if sources is None:
            answers = answers * self.share.to(answers.dtype)
        else:
            own = sources[:, None] == self.source_of
            answers = torch.where(own, answers, torch.zeros_like(answers))
        logits = torch.zeros(
            [features.shape[0], self.num_classes], dtype=answers.dtype, device=answers.device
        )
        return logits.index_add(1, self.class_of, answers)

    def _rows(self) -> Tensor:
        """Return the weights [T, D] of all heads, or [T, S * D] where each sees its own part of the features."""
        if not self.separate_features:
            return self.linear.weight
        weight = self.linear.weight
        pairs = torch.arange(weight.shape[0], device=weight.device)
        blocks = torch.zeros(
            [weight.shape[0], self.num_sources, weight.shape[1]], dtype=weight.dtype, device=weight.device
        )
        return blocks.index_put([pairs, self.source_of], weight).flatten(1)

    @torch.jit.unused
    def sources_in(self, saved: Sequence[str]) -> list[int]:
        """Return the places of this head's sources in the order of a state dict that names the same pairs."""
        source_of = dict(zip(self.pairs, self.source_of.tolist(), strict=True))
        return list(dict.fromkeys(source_of[pair] for pair in saved if pair in source_of))

    @torch.jit.unused
    def _saved_names(self) -> list[str]:
        return self.pairs

    @torch.jit.unused
    def to_linear(self) -> nn.Linear:
        """Return one nn.Linear with the logits that are given without sources: the mean of linear heads is linear."""
        rows = self._rows().detach()
        linear = nn.Linear(rows.shape[1], self.num_classes).to(rows)
        share = self.share.to(rows)
        with torch.no_grad():
            linear.weight.zero_().index_add_(0, self.class_of, rows * share[:, None])
            linear.bias.zero_().index_add_(0, self.class_of, self.linear.bias * share)
        return linear

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, classes={self.num_classes}, sources={self.num_sources}"
