"""The training loop."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.loss import LossOptions, LossTerms, PartialLabelLoss
from labelassemble.models.predict import predict
from labelassemble.training.checkpoint import save_checkpoint
from labelassemble.training.display import Display
from labelassemble.training.history import EpochRow, History
from labelassemble.training.interrupt import StopRequest, TrainingInterrupted
from labelassemble.training.options import TrainOptions
from labelassemble.training.schedule import Best, TermWeights, term_weights
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.batch import Batch, Views
from labelassemble.views.policy import ViewOptions


@dataclass(frozen=True)
class Validation:
    """The validation images, and how they are scored.

    Attributes:
        paths: the files.
        targets: float32 [N, C], NaN = unknown.
        views: options of the deterministic view.
        auroc: gives the AUROC of each class from probabilities and targets, both [N, C]; None = not defined.
        interest: columns of the classes by which the best checkpoint is chosen.
        bad_files: the files that cannot be read; they are left out.
    """

    paths: Sequence[str]
    targets: np.ndarray
    views: ViewOptions
    auroc: Callable[[np.ndarray, np.ndarray], Sequence[float | None]]
    interest: Sequence[int]
    bad_files: BadFiles


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        epochs: epochs done.
        steps: steps done.
        best_epoch: epoch of the best checkpoint, from 1.
        seconds: time spent, interruptions left out.
        early: whether it ended early because the validation loss no longer fell.
    """

    epochs: int
    steps: int
    best_epoch: int
    seconds: float
    early: bool


def fit(
    net: nn.Module,
    views: Views,
    validation: Validation,
    *,
    classes: Sequence[str],
    loss: LossOptions,
    options: TrainOptions,
    run: Path,
    train_targets: np.ndarray,
    description: dict[str, str],
    resume: dict[str, Any] | None,
    display: Display,
) -> Outcome:
    """Train `net` and leave metrics.csv, checkpoints/last.pt and checkpoints/best.pt in `run`.

    Both views of a batch go through the network together, so that BatchNorm sees the same mixture for both. All
    random choices come from (seed, epoch, step), so a resumed run repeats the losses of one that never stopped.

    Args:
        net: on the device where it is to be trained; logits [B, C].
        views: training batches.
        validation: validation images.
        classes: names of the C classes.
        loss: weights, threshold, temperature and warm-up.
        options: epochs, learning rate and so on.
        run: the run's folder.
        train_targets: float32 [N, C] of the training images, from which a balanced pos_weight is counted.
        description: texts stored in every checkpoint, with which the network can be built again.
        resume: what `load_checkpoint` gave for last.pt; None starts anew.
        display: shows progress.

    Raises:
        TrainingInterrupted: on Ctrl-C or SIGTERM, after last.pt was written.
        LabelAssembleError: a loss that is not finite, an unreadable image, a checkpoint that cannot be written.
    """
    device = next(net.parameters()).device
    optimizer = torch.optim.Adam(net.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    plateau = ReduceLROnPlateau(optimizer, factor=options.plateau.factor, patience=options.plateau.patience)
    class_weights = _weights(loss, classes, train_targets)
    best, sums, epoch, first_step, seconds = Best(), _no_sums(), 0, 0, 0.0
    if resume is not None:
        net.load_state_dict(resume["model"])
        optimizer.load_state_dict(resume["optimizer"])
        plateau.load_state_dict(resume["plateau"])
        best, sums = Best(**resume["best"]), resume["sums"]
        epoch, first_step, seconds = resume["epoch"], resume["step"], resume["seconds"]
    history = History(run / "metrics.csv", classes, epochs=epoch)
    started = time.monotonic() - seconds

    def save(name: str, *, at_epoch: int, at_step: int) -> None:
        save_checkpoint(
            run / "checkpoints" / name,
            {
                "description": description,
                "model": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "plateau": plateau.state_dict(),
                "best": asdict(best),
                "sums": sums,
                "epoch": at_epoch,
                "step": at_step,
                "seconds": time.monotonic() - started,
            },
        )

    early = _ends_early(best, options)
    with StopRequest() as stop:
        while epoch < options.epochs and not early:
            weights = term_weights(epoch, loss)
            criterion = _criterion(loss, weights, class_weights).to(device)
            net.train()
            batches = views.epoch(epoch, strong=weights.consistency > 0.0, first_step=first_step)
            for batch in batches:
                step = batch.step  # one whose files are all bad is missing
                targets = batch.targets.to(device)
                logits_weak, logits_strong = _forward(net, batch, device)
                terms = criterion.terms(logits_weak, logits_strong, targets)
                values = [float(term.detach()) for term in terms]  # total first, in the order of LossTerms
                if not math.isfinite(values[0]):
                    raise LabelAssembleError(
                        f"the loss is {values[0]} in epoch {epoch + 1}, step {step + 1}: lower train.lr; "
                        f"the last good state is in {run / 'checkpoints'}"
                    )
                optimizer.zero_grad(set_to_none=True)
                terms.total.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                sums = [a + b for a, b in zip(sums, values, strict=True)]
                display.step(epoch, epoch * views.steps + step + 1, values[0])
                if stop.requested and step + 1 < views.steps:
                    save("last.pt", at_epoch=epoch, at_step=step + 1)
                    raise TrainingInterrupted(epoch, step + 1)

            learning_rate = optimizer.param_groups[0]["lr"]
            probabilities = (
                predict(net, validation.paths, validation.views, bad_files=validation.bad_files)
                if len(validation.paths)
                else None
            )
            val_loss, aucs = _validate(probabilities, validation, len(classes))
            interest = _mean([aucs[column] for column in validation.interest])
            if val_loss is not None:
                plateau.step(val_loss)
                best = best.update(epoch, interest, val_loss, counting=epoch >= loss.warmup_epochs)
            else:  # nothing to choose by: the last epoch is the best
                best = best.update(epoch, None, -float(epoch), counting=False)
            row = EpochRow(
                epoch=epoch + 1,
                step=(epoch + 1) * views.steps,
                seconds=time.monotonic() - started,
                learning_rate=learning_rate,
                pseudo_weight=weights.pseudo,
                consistency_weight=weights.consistency,
                train_loss=sums[0] / views.steps,
                train_bce=sums[1] / views.steps,
                train_pseudo=sums[2] / views.steps,
                train_consistency=sums[3] / views.steps,
                train_known=int(sums[4]),
                train_unknown=int(sums[5]),
                val_loss=val_loss,
                val_auc_mean=_mean(aucs),
                val_auc_interest=interest,
                val_auc=tuple(aucs),
            )
            history.add(row)
            display.epoch(row)
            epoch, first_step, sums = epoch + 1, 0, _no_sums()
            if best.epoch == epoch - 1:
                save("best.pt", at_epoch=epoch, at_step=0)
            save("last.pt", at_epoch=epoch, at_step=0)
            early = _ends_early(best, options)
            if stop.requested and epoch < options.epochs and not early:
                raise TrainingInterrupted(epoch - 1, views.steps)
    return Outcome(epoch, epoch * views.steps, best.epoch + 1, time.monotonic() - started, early)


def _forward(net: nn.Module, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor | None]:
    parts = [batch.weak] if batch.strong is None else [batch.weak, batch.strong]
    # A network with a part a source takes each image's source too.
    sources = [] if batch.sources is None else [torch.cat([batch.sources] * len(parts)).to(device)]
    logits = net(torch.cat(parts).to(device), *sources)
    size = len(batch.weak)
    return logits[:size], None if batch.strong is None else logits[size:]


def _criterion(
    loss: LossOptions,
    weights: TermWeights,
    class_weights: tuple[Tensor | None, Tensor | None],
) -> PartialLabelLoss:
    pos_weight, class_weight = class_weights
    return PartialLabelLoss(
        threshold=loss.threshold,
        temperature=loss.temperature,
        pseudo_weight=weights.pseudo,
        consistency_weight=weights.consistency,
        pos_weight=pos_weight,
        class_weight=class_weight,
        detach_target=loss.detach_target,
    )


def _weights(
    loss: LossOptions, classes: Sequence[str], targets: np.ndarray
) -> tuple[Tensor | None, Tensor | None]:
    """Return pos_weight [C] and class_weight [C], or None where the options ask for none."""
    pos_weight = None
    if loss.pos_weight == "balanced":
        positive = np.nansum(targets, axis=0)
        negative = np.nansum(1.0 - targets, axis=0)
        ratio = np.where(positive > 0, negative / np.maximum(positive, 1e-12), 1.0)
        pos_weight = torch.tensor(np.where(negative > 0, ratio, 1.0), dtype=torch.float32)
    elif loss.pos_weight is not None:
        pos_weight = _by_name(loss.pos_weight, classes, "loss.pos_weight")
    class_weight = (
        None if loss.class_weight is None else _by_name(loss.class_weight, classes, "loss.class_weight")
    )
    return pos_weight, class_weight


def _by_name(values: dict[str, float], classes: Sequence[str], key: str) -> Tensor:
    for name in values:
        if name not in classes:
            raise LabelAssembleError(f"{key} names the unknown class '{name}'{did_you_mean(name, classes)}")
    return torch.tensor([values.get(name, 1.0) for name in classes], dtype=torch.float32)


def _validate(
    probabilities: np.ndarray | None, validation: Validation, classes: int
) -> tuple[float | None, Sequence[float | None]]:
    if probabilities is None:
        return None, [None] * classes
    targets = np.where(np.isnan(probabilities), np.nan, validation.targets)  # without the files that are bad
    known = ~np.isnan(targets)
    if not known.any():
        return None, [None] * classes
    y = targets[known].astype(np.float64)
    # The smallest step below 1 in float64 keeps the logarithm of a certain wrong answer finite.
    p = np.clip(probabilities[known], 1e-15, 1.0 - 1e-15)
    bce = float(-(y * np.log(p) + (1.0 - y) * np.log1p(-p)).mean())
    read = ~np.isnan(probabilities).any(axis=1)
    return bce, validation.auroc(probabilities[read], targets[read])


def _ends_early(best: Best, options: TrainOptions) -> bool:
    return options.early_stop is not None and best.epochs_without_fall >= options.early_stop


def _no_sums() -> list[float]:
    return [0.0] * len(LossTerms._fields)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
