"""Which test images the report shows, and the shares of pseudo-labels that it draws."""

import csv

import numpy as np

from labelassemble.evaluation import Predictions
from labelassemble.evaluation.run_record import read_curves
from labelassemble.report.examples import choose_images
from labelassemble.report.sections import learning_figures


def make(labels, scores, *, splits="test", assumed=None):
    labels = np.array(labels, np.int8)[:, None]
    names = np.array([f"{i}.png" for i in range(len(labels))])
    return Predictions(
        classes=("a",),
        labels=labels,
        probabilities=np.array(scores)[:, None],
        origins=np.zeros(labels.shape, np.uint8) if assumed is None else np.array(assumed, np.uint8)[:, None],
        names=names,
        sources=np.full(len(labels), "nih"),
        groups=names,
        splits=np.broadcast_to(np.array(splits), (len(labels),)),
        paths=names,
    )


def test_the_highest_positive_and_the_worst_mistakes_are_chosen():
    labels = [1, 1, 1, 1, 0, 0, 0, 0, -1, -2]
    scores = [0.95, 0.6, 0.1, 0.2, 0.9, 0.8, 0.7, 0.05, 0.99, 0.0]
    chosen = [(item.kind, item.row) for item in choose_images(make(labels, scores), ["a"])]
    assert chosen == [("found", 0), ("false alarm", 4), ("false alarm", 5), ("missed", 2), ("missed", 3)]
    assumed = np.arange(10) == 4
    rows = [item.row for item in choose_images(make(labels, scores, assumed=assumed), ["a"])]
    assert rows == [0, 5, 6, 2, 3]
    splits = np.where(np.arange(10) == 0, "val", "test")
    assert choose_images(make(labels, scores, splits=splits), ["a"])[0].row == 1


def test_no_mistake_is_shown_where_there_is_none():
    chosen = choose_images(make([1, 1, 0], [0.3, 0.4, 0.2]), ["a"])
    assert [(item.kind, item.row) for item in chosen] == [("found", 1)]
    assert choose_images(make([-1, -1], [0.3, 0.4]), ["a"]) == []
    assert [item.kind for item in choose_images(make([0, 0], [0.3, 0.4]), ["a"])] == []


def test_shares_of_positive_pseudo_labels_are_drawn_where_they_are_recorded(tmp_path):
    columns = ["epoch", "seconds", "pseudo_weight", "consistency_weight", "train_loss", "val_loss"]
    columns += ["val_auc_mean", "val_auc_interest"]
    for extra in ([], ["pseudo_positive:a", "pseudo_positive:b"]):
        path = tmp_path / f"metrics{len(extra)}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*columns, *extra])
            writer.writerows(
                [e, e, 1, 1, 0.5, 0.4, 0.8, 0.8, *(["", 0.25 * e][: len(extra)])] for e in (1, 2)
            )
        history = read_curves(path)
        figures = learning_figures(history, several=True, interest=("b",))
        if not extra:
            assert history.pseudo_positive == {}
            assert [figure.name for figure in figures] == ["Loss", "AUROC on validation images"]
        else:
            assert history.pseudo_positive == {"a": (None, None), "b": (0.25, 0.5)}
            assert figures[-1].name == "Unknown labels that the model takes for positive"
            assert [entry[1:] for entry in figures[-1].legend] == [("b", "last epoch: 0.500")]
            assert figures[-1].note == ""


def test_a_collapse_stands_under_the_shares_of_whichever_class_it_is(tmp_path):
    columns = ["epoch", "seconds", "pseudo_weight", "consistency_weight", "train_loss", "val_loss"]
    columns += ["val_auc_mean", "val_auc_interest", "pseudo_positive:a", "pseudo_positive:b"]
    path = tmp_path / "metrics.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerow([1, 1, 0, 0, 0.5, 0.4, 0.8, 0.8, "", ""])
        writer.writerows([e, e, 1, 1, 0.5, 0.4, 0.8, 0.8, 0.0, 0.2] for e in (2, 3, 4, 5))
    figures = learning_figures(read_curves(path), several=True, interest=("b",))
    dotted, said = figures[-1].note.split(". ", 1)
    assert dotted == "Dotted line: pseudo-labels count from epoch 2 on"
    assert said.startswith("Epoch 4: the pseudo-labels of 'a' have all been negative for 3 epochs")
    assert [figure.note for figure in figures[:-1]] == [f"{dotted}."] * 2
