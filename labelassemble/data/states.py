"""The four states of a label, and the cells that stand for them in a table's CSV."""

from enum import IntEnum
from typing import Final, Literal, TypeAlias


class LabelState(IntEnum):
    """What is known about one class of one image. The codes are those of CheXpert turned the safe way round:

    an unlabelled class is UNKNOWN (not annotated), not negative; UNCERTAIN (somebody looked and could not say) stays
    apart from it, because only a policy chosen by the user may turn it into a target.
    """

    POSITIVE = 1
    NEGATIVE = 0
    UNKNOWN = -1
    UNCERTAIN = -2


POSITIVE: Final = LabelState.POSITIVE
NEGATIVE: Final = LabelState.NEGATIVE
UNKNOWN: Final = LabelState.UNKNOWN
UNCERTAIN: Final = LabelState.UNCERTAIN


class LabelOrigin(IntEnum):
    """Who says what a label says. All but GIVEN are assumed labels: trained on, counted apart, never evaluated on."""

    GIVEN = 0
    """The source's annotators; also of a cell without a label."""
    ASSUME = 1
    """The option `assume` of the source."""
    IMPLIES = 2
    """The taxonomy's `implies`: upwards a positive label, downwards a negative one."""
    NO_FINDING = 3
    """The taxonomy's `no_finding`: a healthy image has none of the findings that its source labels."""
    EXCLUSIVE = 4
    """The taxonomy's `exclusive` and `excludes`, or the option `exclusive` of the source: an image that has one class
    has none of those that it excludes."""


UncertainPolicy: TypeAlias = Literal["ignore", "zeros", "ones", "smooth"]
"""What an UNCERTAIN label becomes in training; see `Table.targets`."""

SMOOTH_TARGET: Final = 0.7
"""Soft target of the policy "smooth": the mean of U(0.55, 0.85), from which Pham et al. draw theirs.

Pham, Le, Tran, Ngo, Nguyen: Interpreting chest X-rays via CNNs that exploit hierarchical disease dependencies and
uncertainty labels, Neurocomputing 437 (2021), section 3.2, U-Ones+LSR. The mean instead of a draw, so that an image has
the same target in each epoch and each run.
"""
