"""What assembling did, as data and as text."""

from dataclasses import dataclass

import pandas as pd

_ROWS_SHOWN = 10


@dataclass(frozen=True)
class AssemblyReport:
    """What was assembled and what had to be decided on the way.

    Attributes:
        coverage: Who labels what, as `Table.coverage`.
        splits: Images a source and split: source, images, groups, train, val, test.
        duplicates: Rows merged into another of the same image: kept, kept_source, merged, merged_source, by.
        conflicts: Labels on which duplicates contradict each other: name, source, other_name, other_source, class,
            label, other_label, result.
        moved: Rows by name whose published split was overruled because their group has a stricter one: name, source,
            published, split.
        notes: Further sentences that a user should read.
    """

    coverage: pd.DataFrame
    splits: pd.DataFrame
    duplicates: pd.DataFrame
    conflicts: pd.DataFrame
    moved: pd.DataFrame
    notes: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Return the report as plain text, below 110 columns where the names allow it."""
        parts = [
            self.splits.to_string(index=False),
            self.coverage.to_string(index=False),
        ]
        for title, frame in (
            ("duplicates merged", self.duplicates),
            ("conflicting labels", self.conflicts),
            ("rows moved so that no patient is on two sides of a split", self.moved),
        ):
            if len(frame):
                shown = frame.head(_ROWS_SHOWN).to_string(index=False)
                more = len(frame) - _ROWS_SHOWN
                parts.append(
                    f"{title}: {len(frame)}\n{shown}" + (f"\n... and {more} more" if more > 0 else "")
                )
        parts.extend(self.notes)
        return "\n\n".join(parts) + "\n"


def empty_duplicates() -> pd.DataFrame:
    """Return a frame of duplicates without a row."""
    return pd.DataFrame(columns=["kept", "kept_source", "merged", "merged_source", "by"])


def empty_conflicts() -> pd.DataFrame:
    """Return a frame of conflicts without a row."""
    return pd.DataFrame(
        columns=["name", "source", "other_name", "other_source", "class", "label", "other_label", "result"]
    )
