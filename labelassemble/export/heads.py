"""Heads of an export that are not one linear layer: queries of which a request may choose, and any other head."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def probabilities_of(logits: Tensor) -> Tensor:
    """Return probabilities [B, C] of logits; an infinite one gives NaN, since 0 or 1 would look like an answer."""
    return torch.where(logits.isinf(), float("nan"), torch.sigmoid(logits))


class ServedQueries(nn.Module):
    """Classes by their queries, W = Q A^T + b; what normalisation and calibration do is inside.

    Args:
        queries: Q [C, K].
        weight: A [D, K].
        bias: b [D].
        scale: [D]; the features that the head was trained for are scale * features + shift.
        shift: [D].
        temperatures: [C], divide the logits.
        added: [C], is added after that.
        classes: names of the rows of Q.
    """

    classes: list[str]

    def __init__(
        self,
        queries: Tensor,
        weight: Tensor,
        bias: Tensor,
        *,
        scale: Tensor,
        shift: Tensor,
        temperatures: Tensor,
        added: Tensor,
        classes: list[str],
    ) -> None:
        super().__init__()
        queries, weight, bias, shift = (x.detach().double() for x in (queries, weight, bias, shift))
        self.queries = nn.Parameter(queries.float())
        self.weight = nn.Parameter((weight * scale.double()[:, None]).float())
        self.bias = nn.Parameter((bias * scale.double()).float())
        self.register_buffer("offsets", (torch.addmm(bias, queries, weight.t()) @ shift).float())
        self.register_buffer("temperatures", temperatures.float())
        self.register_buffer("added", added.float())
        self.offsets: Tensor
        self.temperatures: Tensor
        self.added: Tensor
        self.classes = classes

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B, C] of features [B, D]."""
        return self._logits(features, self.queries, self.offsets, self.temperatures, self.added)

    @torch.jit.export
    def choose(self, features: Tensor, classes: list[str]) -> Tensor:
        """Return logits [B, len(classes)] of the classes named, in the order given; no other query is used."""
        rows: list[int] = []
        for name in classes:
            if name not in self.classes:
                raise ValueError(f"the model has no class '{name}'")
            rows.append(self.classes.index(name))
        chosen = torch.tensor(rows, dtype=torch.long, device=features.device)
        return self._logits(
            features,
            self.queries[chosen],
            self.offsets[chosen],
            self.temperatures[chosen],
            self.added[chosen],
        )

    def _logits(
        self, features: Tensor, queries: Tensor, offsets: Tensor, temperatures: Tensor, added: Tensor
    ) -> Tensor:
        classifiers = torch.addmm(self.bias, queries, self.weight.t())
        return (F.linear(features, classifiers) + offsets) / temperatures + added


class ServedHead(nn.Module):
    """A head that is not linear, between what normalisation and calibration do.

    Args:
        head: features [B, D] -> logits [B, C].
        scale: [D]; the features that the head was trained for are scale * features + shift.
        shift: [D].
        temperatures: [C], divide the logits.
        added: [C], is added after that.
    """

    def __init__(
        self, head: nn.Module, *, scale: Tensor, shift: Tensor, temperatures: Tensor, added: Tensor
    ) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("scale", scale.float())
        self.register_buffer("shift", shift.float())
        self.register_buffer("temperatures", temperatures.float())
        self.register_buffer("added", added.float())
        self.scale: Tensor
        self.shift: Tensor
        self.temperatures: Tensor
        self.added: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B, C] of features [B, D]."""
        logits: Tensor = self.head(features * self.scale + self.shift)
        return logits / self.temperatures + self.added
