"""What a log is compared with, and which of its rows count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelassemble.data import Table
from labelassemble.data.predictions import Predictions
from labelassemble.data.table_io import write_predictions
from labelassemble.data.text import text_array
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import calibrate, write_calibration
from labelassemble.run.monitor import monitor, read_log
from labelassemble.views.options import ViewOptions


@pytest.mark.parametrize(
    ("site", "split", "refused"),
    [("", "train", 0), ("", "test", 0), ("", "val", 1), ("there", "test", 1), ("there", "val", 1)],
)
def test_a_patient_of_several_cases_is_refused_where_it_is_compared(
    evaluated: Path, site: str, split: str, refused: int
) -> None:
    table = Table.from_csv(evaluated / "table.csv")
    groups = table.groups.astype(object)
    first, second = np.flatnonzero(table.splits == split)[:2]
    groups[second] = groups[first]
    table = replace(table, groups=text_array(groups))
    if site:
        table = table.select(table.splits != "train")
    held_out = np.flatnonzero(table.splits != "train")
    if split != "train":  # a row a patient
        held_out = held_out[~np.isin(held_out, np.flatnonzero(table.groups == groups[second])[1:])]
    rows = table.select(held_out)
    scores = np.random.default_rng(0).random((len(rows), 2))
    predictions = Predictions.of(rows, scores)
    folder = evaluated / "calibrations" / site if site else evaluated
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "table.csv")
    write_predictions(predictions, folder / "predictions.csv", scores)
    write_calibration(calibrate(predictions, data=site, correct=False), evaluated / "calibration.json")
    log = evaluated / "log.csv"
    log.write_text("path,score:disc,score:bar\n" + "".join(f"{i},0.{i},0.3\n" for i in range(10)))
    if not refused:
        assert monitor(evaluated, log).reference.unreadable == 0
        return
    with pytest.raises(LabelAssembleError) as caught:
        monitor(evaluated, log)
    assert f"1 of the patients of {folder} that it is compared with have several" in str(caught.value)


def test_of_a_path_that_is_there_again_the_row_that_was_read_counts(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "path,probability:a,probability:b\nx,,\ny,0.1,0.2\nx,0.3,0.4\nz,,\ny,0.5,0.6\nx,0.7,0.8\ny,,\nz,,\n"
    )
    now, remarks = read_log(log, ViewOptions())
    assert {name: scores.tolist() for name, scores in now.scores.items()} == {
        "a": [0.1, 0.3],
        "b": [0.2, 0.4],
    }
    assert (now.images, now.unreadable) == (2, 1)
    assert remarks == ("Left out, since another row of the log has their path: 5 of its rows.",)
