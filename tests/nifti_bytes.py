"""Files of NIfTI whose headers say something else than they should."""

from typing import Any

import numpy as np


def changed(data: bytes, **fields: Any) -> bytes:
    """Return the file with fields of its header set, or with one element of a field (`dim__1`)."""
    from nibabel.nifti1 import header_dtype

    header = np.frombuffer(data[:348], header_dtype).copy()
    for name, value in fields.items():
        field, _, index = name.rpartition("__")
        if field:
            header[field][0, int(index)] = value
        else:
            header[name] = value
    return header.tobytes() + data[348:]
