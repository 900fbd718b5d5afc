"""The training loop."""

import time
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labelassemble.training.accumulate import Counts, split
from labelassemble.training.checkpoint import Checkpoints
from labelassemble.training.cuda_graph import quickest_convolutions
from labelassemble.training.distributed import lost_process_is_an_error
from labelassemble.training.history import EpochRow
from labelassemble.training.interrupt import StopRequest, TrainingInterrupted
from labelassemble.training.logging import TrainingLog
from labelassemble.training.losses import refused_is_an_error
from labelassemble.training.running_means import step_record
from labelassemble.training.state import TrainState
from labelassemble.training.steps import Step, seed_step, synchronised_steps
from labelassemble.training.validation import Scored, Scores
from labelassemble.views.batch import Batch, Views

_READ_EVERY = 20  # steps between readings of the losses on a GPU: each reading waits for it


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
    state: TrainState,
    views: Views,
    validation: Scored,
    log: TrainingLog,
    checkpoints: Checkpoints,
    *,
    until: int | None = None,
) -> Outcome:
    """Train, and leave metrics.csv, last.pt and best.pt.

    All random choices come from (seed, epoch, step), so a resumed run repeats the losses of one that never stopped.
    With several processes each takes its part of every batch; losses, gradients and BatchNorm's statistics are those
    of the whole batch, so that the learning curve is that of one process. The first process alone writes.

    Args:
        state: as it starts, or as a checkpoint kept it.
        views: training batches, of each this process's part.
        validation: validation images or volumes.
        log: what is shown and written of the progress.
        checkpoints: where last.pt and best.pt go.
        until: epochs after which this call ends, to be resumed later; None for all of them.

    Raises:
        TrainingInterrupted: on Ctrl-C or SIGTERM, after last.pt was written.
        LabelAssembleError: a loss that is not finite, an unreadable image, a checkpoint that cannot be written, a
            process that is gone.
        OtherProcessFailed: another process raised one of these.
    """
    options, processes, means = state.options, state.processes, state.means
    read_every = 1 if state.device.type == "cpu" else _READ_EVERY
    with (
        StopRequest(patient=processes.count > 1) as stop,
        torch.random.fork_rng([state.device] if state.device.type == "cuda" else []),
        log,
        state.graphs or nullcontext(),
    ):
        while state.epoch < min(options.epochs, until or options.epochs) and not state.ends_early:
            state.begin_epoch()
            began, images_before = time.monotonic(), means.sums.images
            for step in synchronised_steps(views, state, stop=lambda: stop.requested):
                state.step = step.batch.step
                if step.stop:
                    means.read(state.epoch)
                    checkpoints.save_last(state.state_dict)
                    raise TrainingInterrupted(state.epoch, state.step)
                if step.counts.images == 0:  # all its files are bad
                    continue
                train_step(state, step)
                state.step += 1
                done, last = state.epoch * views.steps + state.step, state.step == views.steps
                save = options.checkpoint_every is not None and done % options.checkpoint_every == 0
                if save or last or len(means) >= read_every:
                    images = means.read(state.epoch)
                    log.step(state.epoch, done, means, images=images)
                if save and not last:
                    checkpoints.save_last(state.state_dict)
            means.read(state.epoch)
            rate = (means.sums.images - images_before) / max(time.monotonic() - began, 1e-9)
            for found in processes.gather(dict(views.bad_files.errors)):
                processes.together(lambda: views.bad_files.merge(found))  # noqa: B023
            scores = validation.scores(state.evaluated, processes)
            row = _epoch_row(state, scores, steps=(state.epoch + 1) * views.steps, images_per_second=rate)
            log.epoch(row, state.watch.update(row.pseudo_positive))
            if state.end_epoch(scores):
                checkpoints.save_best(state.evaluated, state.epoch)
            checkpoints.save_last(state.state_dict)
            unfinished = state.epoch < options.epochs and not state.ends_early
            if processes.any(stop.requested) and unfinished:
                raise TrainingInterrupted(state.epoch - 1, views.steps)
    return Outcome(
        state.epoch, state.epoch * views.steps, state.best.epoch + 1, state.seconds, state.ends_early
    )


def train_step(state: TrainState, step: Step) -> None:
    """Make one step of the optimizer from a batch; its losses are read later."""
    options, processes = state.options, state.processes
    seed_step(options.seed, state.epoch, step.batch.step, processes.rank, state.device)
    with quickest_convolutions(state.device), refused_is_an_error():
        if state.graphs is None:
            record = _gradients(state, step)
        else:
            record = state.graphs.run(
                step.batch,
                lambda batch: forward_and_backward(state, batch, part=step.counts, whole=step.counts),
                state.on_device,
                constants=state.constants,
                kept=state.loss.criterion,
            )
    if options.clip_norm is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.trained, options.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.ema is not None:
        state.ema.update_parameters(state.net)
    state.means.add(step.batch.step, step.batch.rows, record, step.counts)


def _gradients(state: TrainState, step: Step) -> Tensor:
    """Give the parameters the gradients of a step, and no others, and return what the parts' records add up to."""
    processes = state.processes
    state.optimizer.zero_grad(set_to_none=True)
    record = state.means.empty_record(state.device)
    parts = list(split(step.batch, state.options.accumulate, keep_empty=processes.count > 1))
    for part in parts:
        alone = processes.count == 1 and len(parts) == 1
        held = step.counts if alone else state.loss.count(part.targets)
        with state.gradients_kept(apart=part is not parts[-1]):
            record += forward_and_backward(state, state.on_device(part), part=held, whole=step.counts)
    return record


def forward_and_backward(state: TrainState, batch: Batch, *, part: Counts, whole: Counts) -> Tensor:
    """Add the gradients of a batch or a part of one, and return its `step_record`.

    On a GPU nothing here waits for it: not the loss, whose values are read later, and no copy from the host.

    Args:
        state: the training.
        batch: on the device, its rows too.
        part: what it holds.
        whole: what the step's whole batch holds.
    """
    weak, strong = state.forward(batch)
    terms = state.loss.terms(weak, strong, batch.targets, rows=batch.rows, part=part, whole=whole)
    several = state.processes.count
    # The processes' gradients are averaged; the parts of the loss are to be added up.
    loss = state.scaler.scale(terms.total * several)
    with lost_process_is_an_error(several=several > 1):
        loss.backward()  # type: ignore[no-untyped-call]
    return step_record(terms.loss, weak, batch.targets, state.loss.options.threshold, terms.dice, terms.sums)


def _epoch_row(state: TrainState, scores: Scores, *, steps: int, images_per_second: float) -> EpochRow:
    """Return what the epoch in hand came to; the learning rate is still the one in force during it."""
    sums, weights = state.means.sums, state.loss.weights
    shares: tuple[float | None, ...] = (None,) * len(state.data.classes)
    if weights.pseudo > 0.0 or weights.consistency > 0.0:
        shares = state.loss.without_withheld(sums.positive_shares())
    return EpochRow(
        epoch=state.epoch + 1,
        step=steps,
        seconds=state.seconds,
        learning_rate=state.optimizer.param_groups[0]["lr"],
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
        images_per_second=images_per_second,
        val_auc=scores.auc,
        pseudo_positive=shares,
        train_dice=sums.dice / max(sums.steps, 1) if state.loss.options.dice_weight > 0 else None,
        val_dice_interest=scores.dice_interest,
        val_dice=scores.dice,
    )
