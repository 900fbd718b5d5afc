"""The training loop."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from labelassemble.data import Exclusions
from labelassemble.errors import LabelAssembleError
from labelassemble.head import ClassQueryHead
from labelassemble.loss import LossOptions, PartialLabelLoss
from labelassemble.training.accumulate import split
from labelassemble.training.batch_norm import synchronised
from labelassemble.training.checkpoint import save_checkpoint
from labelassemble.training.collapse import CollapseWatch
from labelassemble.training.display import Display
from labelassemble.training.distributed import ALONE, Processes
from labelassemble.training.ema import Ema
from labelassemble.training.events import Events
from labelassemble.training.history import EpochRow, History
from labelassemble.training.interrupt import StopRequest, TrainingInterrupted
from labelassemble.training.losses import StepLoss
from labelassemble.training.options import TrainOptions
from labelassemble.training.schedule import Best
from labelassemble.training.steps import seed_step, steps_together
from labelassemble.training.tally import Sums, Tally, step_record
from labelassemble.training.validation import Validation, validate
from labelassemble.views.batch import Batch, Views

__all__ = ["Outcome", "Validation", "fit"]

_READ_EVERY = 20  # steps between readings of the losses on a GPU: each reading waits for it

_log = logging.getLogger(__name__)


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
    train_paths: Sequence[str],
    train_targets: np.ndarray,
    description: dict[str, str],
    resume: dict[str, Any] | None,
    display: Display,
    processes: Processes = ALONE,
    criterion: type[PartialLabelLoss] = PartialLabelLoss,
    exclusions: Exclusions | None = None,
    given_shares: Sequence[float | None] | None = None,
    until: int | None = None,
) -> Outcome:
    """Train `net` and leave metrics.csv, checkpoints/last.pt and checkpoints/best.pt in `run`.

    Both views of a batch go through the network together, so that BatchNorm sees the same mixture for both. All
    random choices come from (seed, epoch, step), so a resumed run repeats the losses of one that never stopped.

    With several processes each takes its part of every batch; losses, gradients and BatchNorm's statistics are those
    of the whole batch, so that the learning curve is that of one process. The first process alone writes.

    Args:
        net: on the device where it is to be trained; logits [B, C].
        views: training batches, of each this process's part.
        validation: validation images.
        classes: names of the C classes.
        loss: weights, threshold, temperature, warm-up, and how many positives a class needs to be pseudo-labelled.
        options: epochs, learning rate and so on.
        run: the run's folder.
        train_paths: files of the training images.
        train_targets: float32 [N, C] of the training images, from which positives and a balanced pos_weight come.
        description: texts stored in every checkpoint, with which the network can be built again.
        resume: what `load_checkpoint` gave for last.pt; None starts anew.
        display: shows progress.
        processes: that train together, each calling this with the same arguments but its own views.
        criterion: the class of the loss, made anew each epoch with these options.
        exclusions: which classes exclude each other in each training image.
        given_shares: share of positives among the labels of each class that somebody gave, to warn where pseudo-labels
            are positive far more often; None for no such warning.
        until: epochs after which this call ends, to be resumed later; None for all of them.

    Raises:
        TrainingInterrupted: on Ctrl-C or SIGTERM, after last.pt was written.
        LabelAssembleError: a loss that is not finite, an unreadable image, a checkpoint that cannot be written, a
            process that is gone.
        OtherProcessFailed: another process raised one of these.
    """
    device = next(net.parameters()).device
    if options.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if processes.count > 1:
        net = synchronised(net, device)
        processes.same_start(net)
    network: nn.Module = cast(nn.Module, torch.compile(net)) if options.compile else net
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    # One kernel for all parameters: on a CPU a step takes as long as with one a parameter, or a few percent less.
    optimizer = torch.optim.Adam(
        _parameter_groups(net, options), lr=options.lr, weight_decay=options.weight_decay, fused=True
    )
    plateau = ReduceLROnPlateau(optimizer, factor=options.plateau.factor, patience=options.plateau.patience)
    precision = getattr(torch, options.precision)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    ema = None if options.ema is None else Ema(net, options.ema)
    step_loss = StepLoss(loss, classes, train_targets, exclusions, device, criterion)
    if processes.first:
        step_loss.tell_of_withheld(classes)
    tally = Tally(classes, train_paths, processes)
    watch = CollapseWatch(classes, step_loss.positives, given_shares)
    best, epoch, first_step, seconds = Best(), 0, 0, 0.0
    if resume is not None:
        net.load_state_dict(resume["model"])
        optimizer.load_state_dict(resume["optimizer"])
        plateau.load_state_dict(resume["plateau"])
        scaler.load_state_dict(resume["scaler"])
        if ema is not None:
            ema.load_state_dict(resume["ema"])
        tally.begin(resume["sums"])
        watch.load_state_dict(resume)
        best, epoch, first_step = Best(**resume["best"]), resume["epoch"], resume["step"]
        seconds = resume["seconds"]
        _tell_of_other_processes(resume["processes"], processes)
    history = History(run / "metrics.csv", classes, epochs=epoch)
    started = time.monotonic() - seconds

    def save_last(*, at_epoch: int, at_step: int) -> None:
        def write() -> None:
            if not processes.first:
                return
            _check_finite(net)
            state = {
                "description": description,
                "model": net.state_dict(),
                "ema": None if ema is None else ema.state_dict(),
                "optimizer": optimizer.state_dict(),
                "plateau": plateau.state_dict(),
                "scaler": scaler.state_dict(),
                "best": asdict(best),
                "sums": tally.state_dict(),
                **watch.state_dict(),
                "epoch": at_epoch,
                "step": at_step,
                "seconds": time.monotonic() - started,
                "processes": processes.count,
            }
            save_checkpoint(run / "checkpoints" / "last.pt", state, keep_previous=True)

        processes.together(write)

    def save_best(*, at_epoch: int) -> None:
        def write() -> None:
            if not processes.first:
                return
            chosen = net if ema is None else ema.net
            _check_finite(chosen)
            state = {"description": description, "model": chosen.state_dict(), "epoch": at_epoch}
            save_checkpoint(run / "checkpoints" / "best.pt", state)

        processes.together(write)

    read_every = 1 if device.type == "cpu" else _READ_EVERY
    early = _ends_early(best, options)
    done = epoch * views.steps + first_step
    with (
        StopRequest(patient=processes.count > 1) as stop,
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        processes.together(
            lambda: Events(run, classes, wanted=options.tensorboard and processes.first, done=done)
        ) as events,
    ):
        while epoch < min(options.epochs, until or options.epochs) and not early:
            step_loss.begin(epoch)
            weights = step_loss.weights
            net.train()
            began, seen_before = time.monotonic(), tally.sums.images
            for batch, counts, stopping in steps_together(
                views,
                processes,
                epoch=epoch,
                strong=step_loss.strong,
                first_step=first_step,
                stop=lambda: stop.requested,
                count=step_loss.count,
            ):
                if stopping:
                    tally.read(epoch)
                    save_last(at_epoch=epoch, at_step=batch.step)
                    raise TrainingInterrupted(epoch, batch.step)
                if counts.images == 0:  # all its files are bad
                    continue
                seed_step(options.seed, epoch, batch.step, processes.rank, device)
                optimizer.zero_grad(set_to_none=True)
                record = torch.zeros(4 + 3 * len(classes), dtype=torch.float64, device=device)
                for part in split(batch, options.accumulate, keep_empty=processes.count > 1):
                    targets = part.targets.to(device)
                    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                        logits_weak, logits_strong = _forward(network, part, device)
                    logits_weak = logits_weak.float()
                    logits_strong = None if logits_strong is None else logits_strong.float()
                    terms = step_loss.terms(
                        logits_weak,
                        logits_strong,
                        targets,
                        rows=part.rows,
                        part=step_loss.count(part.targets),
                        whole=counts,
                    )
                    scaler.scale(terms.total).backward()  # type: ignore[no-untyped-call]
                    record += step_record(terms, logits_weak, targets, loss.threshold)
                processes.sum_gradients(parameters)
                if options.clip_norm is not None:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(parameters, options.clip_norm)
                scaler.step(optimizer)
                scaler.update()
                if ema is not None:
                    ema.update()
                tally.add(batch.step, batch.rows, record, counts)
                done = epoch * views.steps + batch.step + 1
                checkpoint = options.checkpoint_every is not None and done % options.checkpoint_every == 0
                if checkpoint or len(tally) >= read_every or batch.step + 1 == views.steps:
                    images = tally.sums.images
                    tally.read(epoch)
                    sums = tally.sums
                    known_share = sums.known / max(sums.known + sums.unknown, 1)
                    display.step(
                        epoch, done, tally.last, images=sums.images - images, known_share=known_share
                    )
                    events.step(done, tally.last)
                if checkpoint and batch.step + 1 < views.steps:
                    save_last(at_epoch=epoch, at_step=batch.step + 1)

            tally.read(epoch)
            sums, trained_for = tally.sums, time.monotonic() - began
            learning_rate = optimizer.param_groups[0]["lr"]
            for found in processes.gather(dict(views.bad_files.errors)):
                processes.together(lambda: views.bad_files.merge(found))  # noqa: B023
            scores = validate(net if ema is None else ema.net, validation, processes)
            if scores.loss is not None:
                plateau.step(scores.loss)
                counting = epoch >= loss.warmup_epochs
                best = best.update(epoch, scores.auc_interest, scores.loss, counting=counting)
            else:  # nothing to choose by: the last epoch is the best
                best = best.update(epoch, None, -float(epoch), counting=False)
            pseudo_labelled = weights.pseudo > 0.0 or weights.consistency > 0.0
            row = EpochRow(
                epoch=epoch + 1,
                step=(epoch + 1) * views.steps,
                seconds=time.monotonic() - started,
                learning_rate=learning_rate,
                pseudo_weight=weights.pseudo,
                consistency_weight=weights.consistency,
                train_loss=sums.mean(0),
                train_bce=sums.mean(1),
                train_pseudo=sums.mean(2),
                train_consistency=sums.mean(3),
                train_known=sums.known,
                train_unknown=sums.unknown,
                val_loss=scores.loss,
                val_auc_mean=scores.auc_mean,
                val_auc_interest=scores.auc_interest,
                images_per_second=(sums.images - seen_before) / max(trained_for, 1e-9),
                val_auc=scores.auc,
                pseudo_positive=_shares(sums, step_loss.withheld)
                if pseudo_labelled
                else (None,) * len(classes),
            )
            warnings = watch.update(row.pseudo_positive)
            if processes.first:
                for warning in warnings:
                    _log.warning("epoch %d: %s", epoch + 1, warning)
            processes.together(lambda: history.add(row) if processes.first else None)  # noqa: B023
            display.epoch(row)
            events.epoch(row)
            epoch, first_step = epoch + 1, 0
            tally.begin()
            if best.epoch == epoch - 1:
                save_best(at_epoch=epoch)
            save_last(at_epoch=epoch, at_step=0)
            early = _ends_early(best, options)
            if processes.any(stop.requested) and epoch < options.epochs and not early:
                raise TrainingInterrupted(epoch - 1, views.steps)
    return Outcome(epoch, epoch * views.steps, best.epoch + 1, time.monotonic() - started, early)


def _parameter_groups(net: nn.Module, options: TrainOptions) -> list[dict[str, Any]]:
    """Return what is trained, the class queries with a learning rate of their own unless nothing else is trained."""
    queries = {id(part.queries) for part in net.modules() if isinstance(part, ClassQueryHead)}
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    slow = [parameter for parameter in trained if id(parameter) in queries]
    fast = [parameter for parameter in trained if id(parameter) not in queries]
    if options.query_lr == 1.0 or not slow or not fast:
        return [{"params": trained}]
    return [{"params": fast}, {"params": slow, "lr": options.lr * options.query_lr}]


def _forward(net: nn.Module, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor | None]:
    parts = [batch.weak] if batch.strong is None else [batch.weak, batch.strong]
    # A network with a part a source takes each image's source too.
    sources = [] if batch.sources is None else [torch.cat([batch.sources] * len(parts)).to(device)]
    logits = net(torch.cat(parts).to(device), *sources)
    size = len(batch.weak)
    return logits[:size], None if batch.strong is None else logits[size:]


def _shares(sums: Sums, withheld: Tensor | None) -> tuple[float | None, ...]:
    """Return the share of a class's pseudo-labels on the positive side; None for a class that has none."""
    shares = sums.positive_shares()
    if withheld is None:
        return shares
    return tuple(None if out else share for share, out in zip(shares, withheld.tolist(), strict=True))


def _check_finite(net: nn.Module) -> None:
    """Raise before ruined weights replace a good checkpoint: a finite loss may have had an infinite gradient."""
    for name, value in net.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise LabelAssembleError(
                f"the weights '{name}' are no longer finite: lower train.lr or set train.clip_norm; "
                "the checkpoints hold the state before it"
            )


def _tell_of_other_processes(before: int, processes: Processes) -> None:
    if before != processes.count and processes.first:
        _log.warning(
            "the checkpoint is of %d process(es), going on with %d: the same learning curve, but for rounding",
            before,
            processes.count,
        )


def _ends_early(best: Best, options: TrainOptions) -> bool:
    return options.early_stop is not None and best.epochs_without_fall >= options.early_stop
