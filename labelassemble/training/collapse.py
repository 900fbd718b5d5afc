"""Pseudo-labels that all fall on one side teach a class nothing but that side: seen, and said."""

from collections.abc import Sequence

_SHARE = 0.999
_EPOCHS = 3


class CollapseWatch:
    """Counts for each class the epochs in a row in which its pseudo-labels were all (99.9%) on one side.

    Args:
        classes: names of the classes.
        positives: labelled positives of each, for the warning; None leaves them out.
    """

    def __init__(self, classes: Sequence[str], positives: Sequence[int] | None = None) -> None:
        self._classes = classes
        self._positives = positives
        self.runs = [0] * len(classes)  # positive side counted upwards, negative side downwards

    def update(self, shares: Sequence[float | None]) -> list[str]:
        """Return a warning for each class that has now been one-sided for three epochs in a row.

        Args:
            shares: of each class's unknown labels on the positive side in an epoch, None without any.
        """
        warnings = []
        for index, share in enumerate(shares):
            side = 0 if share is None else (share >= _SHARE) - (share <= 1.0 - _SHARE)
            before = self.runs[index]
            self.runs[index] = side if side * before <= 0 else before + side
            if share is not None and side and abs(self.runs[index]) == _EPOCHS:
                known = "" if self._positives is None else f", {self._positives[index]} labelled positives"
                warnings.append(
                    f"the pseudo-labels of '{self._classes[index]}' have all been "
                    f"{'positive' if side > 0 else 'negative'} for {_EPOCHS} epochs ({share:.2%} positive now{known}): "
                    "where nobody looked for it, the network now learns that it is always "
                    f"{'there' if side > 0 else 'absent'}; loss.min_positives withholds pseudo-labels of rare classes"
                )
        return warnings
