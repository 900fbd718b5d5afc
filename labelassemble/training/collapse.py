"""Pseudo-labels that all fall on one side teach a class nothing but that side: seen, and said."""

from collections.abc import Sequence

_SHARE = 0.999
_EPOCHS = 3


class CollapseWatch:
    """Counts for each class the epochs in a row in which its pseudo-labels were all (99.9%) on one side.

    Args:
        classes: names of the classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
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
            if side and abs(self.runs[index]) == _EPOCHS:
                warnings.append(
                    f"the pseudo-labels of '{self._classes[index]}' have all been "
                    f"{'positive' if side > 0 else 'negative'} for {_EPOCHS} epochs: where nobody looked for it, the "
                    f"network now learns that it is always {'there' if side > 0 else 'absent'}"
                )
        return warnings
