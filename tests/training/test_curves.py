"""metrics.csv: read back as it was written."""

import sys
from dataclasses import replace
from pathlib import Path

from labelassemble.training.curves import read_curves
from labelassemble.training.history import History

sys.path.insert(0, str(Path(__file__).parent))
from epoch_rows import ROW


def row(epoch, *, late):
    return replace(
        ROW,
        epoch=epoch,
        step=10 * epoch,
        seconds=31.5 * epoch,
        pseudo_weight=float(late),
        train_consistency=float("nan"),
        val_loss=None,
        pseudo_positive=(None, 0.25 * epoch),
    )


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "metrics.csv"
    history = History(path, ["a", "b: c"])
    assert not path.exists()
    for epoch in (1, 2):
        history.add(row(epoch, late=epoch > 1))
    curves = read_curves(path)
    assert curves.epochs == (1, 2)
    assert curves.columns["step"] == (10.0, 20.0)
    assert curves.columns["val_loss"] == (None, None)
    assert curves.columns["train_consistency"] == (None, None)  # not a finite number
    assert curves.pseudo_positive == {"a": (None, None), "b: c": (0.25, 0.5)}
    assert curves.seconds == 63.0
    assert curves.pseudo_labels_from == 2


def test_a_file_without_an_epoch_or_without_shares_is_read(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(
        "epoch,step,seconds,learning_rate,pseudo_weight,consistency_weight,train_loss,train_bce,train_pseudo,"
        "train_consistency,train_known,train_unknown,val_loss,val_auc_mean,val_auc_interest,val_auc:a\n"
    )
    curves = read_curves(path)
    assert (curves.epochs, curves.seconds, curves.pseudo_labels_from) == ((), None, None)
    assert curves.pseudo_positive == {}
