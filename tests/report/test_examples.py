"""Which test images the report shows."""

import numpy as np

from labelassemble.evaluation import Predictions
from labelassemble.report.examples import choose_images


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
