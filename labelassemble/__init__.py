"""labelassemble: learn one model from datasets that label different things.

Label-Assemble (Kang, Lu, Yuille, Zhou, ISBI 2023, arXiv 2109.12265): binary cross-entropy where a label is known,
sharpened pseudo-labels and weak/strong consistency where it is not, and a head in which each class is a learnable
query.
"""

from labelassemble import functional
from labelassemble.errors import LabelAssembleError
from labelassemble.head import ClassQueryHead
from labelassemble.loss import LossTerms, MaskedBCEWithLogitsLoss, PartialLabelLoss
from labelassemble.models import AssembleNet
from labelassemble.version import __version__

__all__ = [
    "AssembleNet",
    "ClassQueryHead",
    "LabelAssembleError",
    "LossTerms",
    "MaskedBCEWithLogitsLoss",
    "PartialLabelLoss",
    "__version__",
    "functional",
]
