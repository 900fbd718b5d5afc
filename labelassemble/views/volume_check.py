"""Reading every volume and mask of a table as a training would: which cannot be, and what the others are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from labelassemble.data import Table
from labelassemble.data.errors import ImageError
from labelassemble.data.fingerprints import Progress, each_image
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import load_case, load_mask

_SHOWN: Final = 20


class _Look(NamedTuple):
    """What a case turned out to be: the voxels of its file, and shares of its intensities that are cut off."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    below: float
    above: float
    small: bool


@dataclass(frozen=True)
class CaseCheck:
    """What reading every case of a table showed.

    Attributes:
        cases: How many were looked at.
        bad: Path and reason of each that cannot be used, in the table's order.
        frame: A row per source: cases, shape and spacing of the files from the least to the greatest, the mean share of
            voxels that become 0 and 1, and how many cases are smaller than a patch.
    """

    cases: int
    bad: tuple[tuple[str, str], ...]
    frame: pd.DataFrame

    def to_text(self) -> str:
        """Return the result as text: a line for each bad case, the first 20, and what the others are, by source."""
        parts = [f"all {self.cases} cases can be read"]
        if self.bad:
            lines = [f"{len(self.bad)} of {self.cases} cases cannot be read"]
            lines += [f"  {path}: {reason}" for path, reason in self.bad[:_SHOWN]]
            if len(self.bad) > _SHOWN:
                lines.append(f"  ... and {len(self.bad) - _SHOWN} more")
            parts = ["\n".join(lines)]
        if len(self.frame):
            parts.append(f"voxels of each source\n{self.frame.to_string(index=False)}")
        return "\n\n".join(parts) + "\n"


def check_cases(table: Table, options: VolumeOptions, *, progress: Progress | None = None) -> CaseCheck:
    """Read each case of `table` and its mask, and return those that fail.

    Args:
        table: the cases.
        options: what a training would make of them, and the threads that read.
        progress: called with (cases done, cases in all).
    """

    def look(row: int) -> _Look | tuple[str, str]:
        try:
            volume = load_case(table.paths[row], options)
            if table.masks[row]:
                load_mask(table.masks[row], volume)
        except ImageError as error:
            return error.path, error.reason
        below, above = (float((volume.image == end).mean()) for end in (0.0, 1.0))
        small = any(size < edge for size, edge in zip(volume.image.shape, options.patch, strict=True))
        spacing = tuple(volume.stored.spacing().tolist()) if volume.stored.affine is not None else ()
        return _Look(volume.stored.shape, spacing[: volume.image.ndim], below, above, small)

    found = each_image(range(len(table)), look, options.readers(), progress)
    bad = tuple(item for item in found if not isinstance(item, _Look))
    rows = []
    for source in table.sources.unique().tolist():
        looks = [found[row] for row in np.flatnonzero(table.sources == source)]
        good = [item for item in looks if isinstance(item, _Look)]
        if good:
            rows.append((source, len(good), *_described(good)))
    columns = ["source", "cases", "shape", "spacing in mm", "at 0", "at 1", "smaller than a patch"]
    return CaseCheck(len(table), bad, pd.DataFrame(rows, columns=columns))


def _described(looks: Sequence[_Look]) -> tuple[str, str, str, str, int]:
    spacings = [look.spacing for look in looks if look.spacing]
    return (
        _range([look.shape for look in looks], "d"),
        _range(spacings, ".3g") if spacings else "not in the files",
        f"{np.mean([look.below for look in looks]):.0%}",
        f"{np.mean([look.above for look in looks]):.0%}",
        sum(look.small for look in looks),
    )


def _range(values: Sequence[tuple[float, ...]], form: str) -> str:
    """Return the least and the greatest along each axis: "30-41 x 40-59 x 24-47"."""
    least, greatest = np.min(values, axis=0).tolist(), np.max(values, axis=0).tolist()
    axes = [
        f"{low:{form}}" if low == high else f"{low:{form}}-{high:{form}}"
        for low, high in zip(least, greatest, strict=True)
    ]
    return " x ".join(axes)
