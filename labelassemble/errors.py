"""Errors that are the user's to mend, and the nearest name to what was misspelt."""

import difflib
from collections.abc import Iterable


class LabelAssembleError(ValueError):
    """A mistake in what the user gave: one sentence that names the thing, the rule and what came.

    The command line prints the sentence without a traceback and exits with status 2.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the known name nearest to `name`, or all the known ones if few."""
    candidates = list(known)
    lowered = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    if near:
        return f", did you mean '{lowered[near[0]]}'?"
    if candidates and len(candidates) <= 12:
        return ", known: " + ", ".join(candidates)
    return ""
