"""Who is tested, who chooses the epoch, and whom each part draws: patients, divided anew by every seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.states import POSITIVE
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.bootstrap import patient_indices
from labelassemble.experiments.dataset import Dataset
from labelassemble.experiments.experiment import Part
from labelassemble.experiments.label_split import varies

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class CaseSplit:
    """The cases of one job, as rows of its dataset; a patient is in one of them alone.

    Attributes:
        parts: of the training, by part.
        validation: those that choose the epoch.
        test: those of the fold.
    """

    parts: dict[str, Rows]
    validation: Rows
    test: Rows


def split_cases(
    dataset: Dataset,
    parts: Sequence[Part],
    *,
    size: int | str,
    seed: int,
    fold: int,
    folds: int,
    validation: int | None,
) -> CaseSplit:
    """Return the cases of a job: every seed deals the patients anew, the same for every arm.

    Patients who show the same classes are spread evenly over folds and parts. Parts take theirs one after the other,
    those of a fixed number first and the one that takes all the others last, wherever it stands.

    Args:
        dataset: the cases.
        parts: all the parts of the experiment.
        size: the training size, in patients: a number, or "all".
        seed: of the dealing.
        fold: which one is tested.
        folds: how many.
        validation: patients; None for a fifth of those of the other folds.

    Raises:
        LabelAssembleError: fewer patients than folds, validation and parts need.
    """
    table = dataset.table
    code = patient_indices(table.groups, len(table))
    patients = int(code.max()) + 1
    shows = np.zeros((patients, len(table.classes)), np.bool_)
    np.logical_or.at(shows, code, table.labels == POSITIVE)
    rng = np.random.default_rng([seed, 2])
    alike = np.unique(shows, axis=0, return_inverse=True)[1].reshape(-1)
    fold_of = np.empty(patients, np.intp)
    begin = 0  # so that the folds are of one size
    for pattern in range(int(alike.max()) + 1):
        mine = rng.permutation(np.flatnonzero(alike == pattern))
        fold_of[mine] = (np.arange(len(mine)) + begin) % folds
        begin += len(mine)
    rest = np.flatnonzero(fold_of != fold)
    rest = rest[_spread(alike[rest], rng)]
    held = max(1, len(rest) // 5) if validation is None else validation
    if patients < folds or held >= len(rest):
        raise LabelAssembleError(
            f"{patients} patients are too few for {folds} folds and {held} patients of validation"
        )
    chosen = np.zeros(len(rest), np.bool_)
    chosen[np.linspace(0, len(rest) - 1, held).round().astype(np.intp)] = True
    training = rest[~chosen]
    taken, first = dict[str, Rows](), 0
    for part in sorted(parts, key=varies):
        count = _count(part, len(training), len(training) - first, size)
        taken[part.name] = _rows(code, training[first : first + count])
        first += count
    return CaseSplit(taken, _rows(code, rest[chosen]), _rows(code, np.flatnonzero(fold_of == fold)))


def _spread(alike: Rows, rng: np.random.Generator) -> Rows:
    """Return the patients in an order of which every stretch has about the same share of each kind."""
    place = np.empty(len(alike))
    for pattern in range(int(alike.max()) + 1):
        mine = rng.permutation(np.flatnonzero(alike == pattern))
        place[mine] = (np.arange(len(mine)) + rng.random(len(mine))) / len(mine)
    return np.argsort(place)


def _count(part: Part, every: int, left: int, size: int | str) -> int:
    wanted = size if part.images == "size" else part.images
    if wanted == "all":
        return left
    count = round(wanted * every) if isinstance(wanted, float) else int(wanted)
    if count > left:
        raise LabelAssembleError(f"part '{part.name}' takes {count} training patients, but {left} are left")
    return count


def _rows(code: Rows, patients: Rows) -> Rows:
    return np.flatnonzero(np.isin(code, patients))
