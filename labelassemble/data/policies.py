"""What an UNCERTAIN label becomes in training."""

from collections.abc import Mapping, Sequence
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.states import SMOOTH_TARGET, UncertainPolicy
from labelassemble.errors import LabelAssembleError, did_you_mean

_TARGETS: Final[Mapping[UncertainPolicy, float]] = {
    "ignore": np.nan,
    "zeros": 0.0,
    "ones": 1.0,
    "smooth": SMOOTH_TARGET,
}


def policy_targets(policies: Mapping[str, UncertainPolicy], classes: Sequence[str]) -> NDArray[np.float32]:
    """Return the target that an UNCERTAIN label of each class becomes, float32 [C], NaN = ignored."""
    for name, policy in policies.items():
        if name != "default" and name not in classes:
            raise LabelAssembleError(
                f"uncertain: no class '{name}'{did_you_mean(name, [*classes, 'default'])}"
            )
        if policy not in get_args(UncertainPolicy):
            raise LabelAssembleError(
                f"uncertain: the policy for '{name}' must be ignore, zeros, ones or smooth, got '{policy}'"
            )
    default = policies.get("default", "ignore")
    return np.array([_TARGETS[policies.get(name, default)] for name in classes], dtype=np.float32)
