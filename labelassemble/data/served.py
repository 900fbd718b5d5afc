"""Which of a table's images the C++ programs would not read, or would read in another way than training did."""

from collections import Counter
from typing import Final

import numpy as np

from labelassemble.data.decoding import AS_THE_FILE_SAYS, split_reference
from labelassemble.data.errors import ImageError
from labelassemble.data.formats import format_of, program_formats
from labelassemble.data.images import read_image
from labelassemble.data.pixel_range import sampled_rows
from labelassemble.data.table import WARNING, Table

PROGRAMS: Final = "labelassemble-predict and labelassemble-serve"


def not_served_alike(table: Table) -> tuple[str, ...]:
    """Return a warning per source whose images the programs of this build refuse or decode otherwise.

    16 images of each source are looked at; those that cannot be opened, and pixels in archives, say nothing.
    """
    readable = program_formats()
    if not readable:
        return ()
    refused: dict[str, Counter[str]] = {}
    otherwise: dict[str, str] = {}
    looked: Counter[str] = Counter()
    for row in sampled_rows(table):
        source, path = str(table.sources[row]), str(table.paths[row])
        looked[source] += 1
        if split_reference(path)[1] != AS_THE_FILE_SAYS:
            otherwise.setdefault(source, path)
        try:
            data = read_image(path)
        except ImageError:
            continue
        kind = None if isinstance(data, np.ndarray) else format_of(data)
        if kind is not None and kind not in readable:
            refused.setdefault(source, Counter())[kind] += 1
    found = []
    for source, kinds in refused.items():
        told = " and ".join(f"{count} {kind}" for kind, count in kinds.items())
        found.append(
            f"source '{source}': of {looked[source]} images looked at, {told}, which {PROGRAMS} of this build refuse; "
            f"they read {', '.join(readable)}, so convert such images before, or answer by labelassemble predict"
        )
    for source, path in otherwise.items():
        found.append(
            f"source '{source}' is decoded by its options `bits` or `orientation` (the first: {path}), which "
            f"{PROGRAMS} do not know: they go by what a file says"
        )
    return tuple(WARNING + one for one in found)
