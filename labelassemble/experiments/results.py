"""Results of an experiment's jobs, kept so that an interrupted experiment goes on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelassemble._files import make_folder, write_text
from labelassemble.experiments.jobs import Job
from labelassemble.experiments.measures import Row


class Results:
    """The rows of finished jobs, a file ``NAME.json`` each.

    Args:
        folder: gets the files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, job: Job) -> Row | None:
        """Return the row of exactly this job, None where there is none: one of other settings does not count.

        An option that the library has got since counts as it was before, at its default; one whose default has changed
        since does not.
        """
        try:
            values = json.loads((self._folder / f"{job.name}.json").read_text(encoding="utf-8"))
            if values["fingerprint"] != job.fingerprint or not _same(values["settings"], job.settings):
                return None
            row: Row = values["row"]
            return row
        except (OSError, ValueError, KeyError, TypeError):  # absent, or cut off by something that is not us
            return None

    def save(self, job: Job, row: Row) -> None:
        """Write the row, whole or not at all.

        Raises:
            LabelAssembleError: it cannot be written.
        """
        path = self._folder / f"{job.name}.json"
        values = {"fingerprint": job.fingerprint, "settings": job.settings, "row": row}
        make_folder(self._folder)
        write_text(path, json.dumps(values, indent=1) + "\n")

    def left_aside(self, jobs: Sequence[Job]) -> int:
        """Return how many results in the folder are of other jobs or settings than these."""
        names = {f"{job.name}.json" for job in jobs}
        return sum(path.name not in names for path in self._folder.glob("[!.]*.json"))


def _same(stored: Any, now: Any) -> bool:
    """Return whether every stored value is the same now; the fingerprint says that new options are at defaults."""
    if isinstance(stored, dict) and isinstance(now, dict):
        return all(key in now and _same(value, now[key]) for key, value in stored.items())
    if isinstance(stored, list) and isinstance(now, list):
        return len(stored) == len(now) and all(map(_same, stored, now))
    return bool(stored == now)
