"""Pseudo-labels that go wrong: all on one side, or present far more often than among known labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_SHARE = 0.999
_EPOCHS = 3
_TIMES, _MARGIN = 3.0, 0.1
_RARER = 0.01


def known_shares(targets: np.ndarray) -> list[float | None]:
    """Return the share of positives among the known of targets [N, C] (NaN = unknown), by class; None without any."""
    known = (~np.isnan(targets)).sum(axis=0)
    positive = (targets > 0.5).sum(axis=0)
    return [float(p / k) if k else None for p, k in zip(positive, known, strict=True)]


class CollapseWatch:
    """Counts for each class the epochs in a row in which its pseudo-labels were wrong in one of two ways.

    All of them (99.9%) on one side; or present more than three times as often as among the known labels, and by 0.1
    more at least.

    Args:
        classes: names of the classes.
        positives: labelled positives of each, for the warning; None leaves them out.
        known: share of positives among each class's labels that somebody gave; None leaves out the second watch.
        voxels: whether labels are of voxels: a healthy class fills a thousandth of them or less, so that "all on the
            negative side" is a hundredth of its known share.
    """

    def __init__(
        self,
        classes: Sequence[str],
        positives: Sequence[int] | None = None,
        known: Sequence[float | None] | None = None,
        *,
        voxels: bool = False,
    ) -> None:
        self._classes = classes
        self._positives = positives
        self._known = known
        self._least = [1.0 - _SHARE] * len(classes)
        if voxels:
            self._least = [
                min(1.0 - _SHARE, _RARER * (share or 0.0)) for share in known or [None] * len(classes)
            ]
        self.runs = [0] * len(classes)  # positive side counted upwards, negative side downwards
        self.over = [0] * len(classes)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"one_sided": list(self.runs), "over": list(self.over)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept; earlier versions kept no count of the second kind."""
        self.runs = list(state["one_sided"])
        self.over = list(state.get("over", self.over))

    def update(self, shares: Sequence[float | None]) -> list[str]:
        """Return a warning for each class that has now gone wrong in one way for three epochs in a row.

        Args:
            shares: of each class's unknown labels on the positive side in an epoch, None without any.
        """
        warnings = []
        for index, share in enumerate(shares):
            name = self._classes[index]
            side = 0 if share is None else (share >= _SHARE) - (share <= self._least[index])
            before = self.runs[index]
            self.runs[index] = side if side * before <= 0 else before + side
            if share is not None and side and abs(self.runs[index]) == _EPOCHS:
                known = "" if self._positives is None else f", {self._positives[index]} labelled positives"
                warnings.append(
                    f"the pseudo-labels of '{name}' have all been "
                    f"{'positive' if side > 0 else 'negative'} for {_EPOCHS} epochs ({share:.2%} positive now{known}): "
                    "where it is not annotated, the network now learns that it is always "
                    f"{'there' if side > 0 else 'absent'}; loss.min_positives withholds pseudo-labels of rare classes"
                )
            expected = None if self._known is None else self._known[index]
            too_often = (
                share is not None
                and expected is not None
                and share > max(_TIMES * expected, expected + _MARGIN)
            )
            self.over[index] = self.over[index] + 1 if too_often else 0
            if share is not None and expected is not None and self.over[index] == _EPOCHS:
                warnings.append(
                    f"'{name}' has been called present in unknown labels far more often than in given ones for "
                    f"{_EPOCHS} epochs ({share:.1%} now against {expected:.1%}): if other classes exclude it, say so "
                    "(exclusive of a source or of the taxonomy); loss.min_positives withholds pseudo-labels of rare "
                    "classes"
                )
        return warnings
