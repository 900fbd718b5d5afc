"""labelassemble: learn one model from datasets that label different things.

Label-Assemble (Kang, Lu, Yuille, Zhou, ISBI 2023, arXiv 2109.12265): binary cross-entropy where a label is known,
sharpened pseudo-labels and weak/strong consistency where it is not, and a head in which each class is a learnable
query.

A name is imported when it is first used, so that commands without torch start at once. `torch.ops.labelassemble` is
there from then on; where torch was imported before, at once.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from labelassemble._checkout import give_way

give_way(__name__, Path(__file__).resolve().parent)

from labelassemble.errors import LabelAssembleError  # noqa: E402
from labelassemble.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from labelassemble import functional
    from labelassemble.head import ClassQueryHead
    from labelassemble.loss import LossTerms, MaskedBCEWithLogitsLoss, PartialLabelLoss
    from labelassemble.models import AssembleNet
else:
    from labelassemble._lazy import on_demand

    __getattr__ = on_demand(
        __name__,
        {
            "functional": ["functional"],
            "head": ["ClassQueryHead"],
            "loss": ["LossTerms", "MaskedBCEWithLogitsLoss", "PartialLabelLoss"],
            "models": ["AssembleNet"],
        },
    )

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

if "torch" in sys.modules:  # the ops are wanted by somebody who calls them by `torch.ops`
    from labelassemble import _extension  # noqa: F401
