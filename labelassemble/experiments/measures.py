"""What a trained network comes to on the test images of an experiment: one row per run."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelassemble.config import Config
from labelassemble.data import Table
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN
from labelassemble.evaluation import auroc_per_class, delong, wilson, youden_threshold
from labelassemble.evaluation.leakage import source_leakage
from labelassemble.head import ClassQueryHead
from labelassemble.models.features import predict_with_features
from labelassemble.models.predict import predict
from labelassemble.run.folder import load_trained
from labelassemble.training.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from labelassemble.experiments.jobs import Task

Row = dict[str, Any]
"""One run: what is measured by column. ``auc:CLASS`` is of a class, ``auc@SOURCE`` within a source."""


def measures(task: "Task", config: Config) -> Row:
    """Return what the trained network of a task, whose run has this configuration, comes to."""
    job = task.job
    net = load_trained(task.run).net
    best = None
    columns = [task.held_out.column(name) for name in job.classes]
    is_test = task.held_out.splits == "test"
    test = task.held_out.select(is_test)
    truth, measured = _targets(test.labels[:, columns]), slice(job.measured)
    if job.checkpoint == "last":
        scores = predict(net, test.paths.tolist(), config.views, batch_size=256)
        best = _mean(_aucs(scores, truth, job.classes)[measured])
        net.load_state_dict(load_checkpoint(task.run / "checkpoints" / "last.pt")["model"])
    answers = predict_with_features(net, task.held_out.paths.tolist(), config.views, batch_size=256)
    scores = answers.probabilities[is_test]
    aucs = _aucs(scores, truth, job.classes)
    row: Row = {"auc": _mean(aucs), "auc_best": best}
    if job.setting.interest is not None:
        val = task.held_out.select(~is_test)
        given = _targets(np.where(val.assumed, np.int8(UNKNOWN), val.labels)[:, columns[0]])
        threshold = youden_threshold(given, answers.probabilities[~is_test, 0])
        row |= {"threshold": threshold} | _rates(test, truth[:, 0], scores[:, 0], threshold)
        if len(sources := list(dict.fromkeys(task.held_out.sources.tolist()))) > 1:
            for source in sources:
                inside = test.sources == source
                found = _rates(test.select(inside), truth[inside, 0], scores[inside, 0], threshold)
                found["assumed"] = int(test.assumed[inside, columns[0]].sum())
                row |= {f"{name}@{source}": value for name, value in found.items()}
            if answers.features is not None:
                features = answers.features[is_test]
                leak = source_leakage(features, test.sources, test.groups, truth[:, :1].astype(np.float64))
                if leak is not None:
                    row |= {"leakage": leak.auc, "leakage_within": leak.within}
    else:
        row |= {f"auc:{name}": auc for name, auc in zip(job.classes, aucs, strict=True)}
        row |= _counts("test", truth)
    row |= _unknown(task, net, config, columns[measured])
    if isinstance(net.head, ClassQueryHead) and job.other is not None:
        weight = net.head.to_linear().weight.detach().double().numpy()
        row["cosine"] = float(net.head.similarity()[0, 1])
        row["cosine_of_classifiers"] = _cosine(weight[0], weight[1])
        if answers.features is not None:
            labels = task.held_out.labels[:, columns]
            row["cosine_of_features"] = _cosine_of_features(answers.features, labels)
    return row


def _unknown(task: "Task", net: Any, config: Config, columns: Sequence[int]) -> Row:
    """Return what was trained on, and what the network says of the measured cells that it saw as unknown."""
    labels = task.training.labels[:, columns]
    unknown = labels == UNKNOWN
    row: Row = {
        "train_images": len(labels),
        "train_positives": int((labels == POSITIVE).sum()),
        "unknown": int(unknown.sum()),
    }
    some = unknown.any(axis=1)
    if some.any():
        table = task.training.table.select(some)
        scores = predict(net, table.paths.tolist(), config.views, batch_size=256)[:, : len(columns)]
        hidden = _targets(np.where(unknown[some], table.labels[:, columns], np.int8(UNKNOWN)))
        row["unknown_above"] = float((scores[unknown[some]] > config.loss.threshold).mean())
        if not np.isnan(hidden).all():
            row["unknown_positive"] = float(np.nanmean(hidden))
        row["unknown_auc"] = _mean(_aucs(scores, hidden, task.job.classes[: len(columns)]))
    return row


def _targets(labels: NDArray[np.int8]) -> NDArray[np.float32]:
    return np.where(labels < NEGATIVE, np.float32(np.nan), labels.astype(np.float32))


def _cosine(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _cosine_of_features(features: NDArray[np.float32], labels: NDArray[np.int8]) -> float | None:
    """Return the cosine of two classes' mean features, each mean taken from the mean of all images.

    Args:
        features: [N, D].
        labels: states [N, 2], of which the positive ones count; None comes where a class has none.
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    positive = labels == POSITIVE
    if not positive.any(axis=0).all():
        return None
    return _cosine(centred[positive[:, 0]].mean(axis=0), centred[positive[:, 1]].mean(axis=0))


def _aucs(
    scores: NDArray[np.float64], truth: NDArray[np.float32], classes: Sequence[str]
) -> list[float | None]:
    return auroc_per_class(scores, truth, classes=classes)


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _counts(prefix: str, truth: NDArray[np.float32]) -> Row:
    return {f"{prefix}_positives": int((truth == 1).sum()), f"{prefix}_negatives": int((truth == 0).sum())}


def _rates(
    table: Table, truth: NDArray[np.float32], scores: NDArray[np.float64], threshold: float | None
) -> Row:
    """Return AUC with DeLong's interval over patients, and what is called right at the threshold with Wilson's."""
    row = _counts("test", truth)
    positive, negative = truth == 1, truth == 0
    area = delong(
        scores[positive],
        scores[negative],
        positive_groups=table.groups[positive],
        negative_groups=table.groups[negative],
    )
    if area is not None:
        row |= {"auc": area.auroc, "auc_low": area.interval.lower, "auc_high": area.interval.upper}
    if threshold is not None:
        right = np.where(positive, scores >= threshold, scores < threshold)
        for name, of in (
            ("sensitivity", positive),
            ("specificity", negative),
            ("accuracy", positive | negative),
        ):
            hits, trials = int(right[of].sum()), int(of.sum())
            if (interval := wilson(hits, trials)) is not None:
                row |= {name: hits / trials, f"{name}_low": interval.lower, f"{name}_high": interval.upper}
    return row
