"""Links between folders."""

import os


def leads_back(path: str) -> bool:
    """Return whether a link to a folder leads to a folder that it lies in, where whoever follows it never ends."""
    here, there = os.path.realpath(os.path.dirname(path)), os.path.realpath(path)
    return f"{here}/".startswith(f"{there.rstrip('/')}/")
