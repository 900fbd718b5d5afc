"""The training step as a module of Lightning, and the two views as its data.

    parts = from_config(load_config("run.yaml"))
    Trainer(**parts.trainer).fit(parts.module, parts.data)

The numbers are those of `labelassemble train`: the loss of a step is the mean over its whole batch on any number of
processes, views and batches are those of the same seed, and warm-up, ramp and learning rates are those of the options.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from labelassemble.config import Config
from labelassemble.errors import LabelAssembleError
from labelassemble.loss_options import LossOptions
from labelassemble.run.prepare import prepare
from labelassemble.run.training import images_to_validate, resolved_sampling
from labelassemble.training.accumulate import Counts
from labelassemble.training.data import TrainingData
from labelassemble.training.distributed import Processes
from labelassemble.training.losses import StepLoss, StepTerms
from labelassemble.training.options import TrainOptions
from labelassemble.training.schedule import needs_strong
from labelassemble.training.start import freeze
from labelassemble.training.state import adam
from labelassemble.training.steps import seed_step
from labelassemble.training.validation import Scores, Validation, score_images
from labelassemble.views.batch import Batch, EvaluationBatch, Views
from labelassemble.views.choice import choose_backend, open_views
from labelassemble.views.options import ViewOptions
from labelassemble.views.sampler import Sampler
from labelassemble.views.torch_backend import evaluation_batches

try:
    from lightning import LightningDataModule, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"labelassemble.integrations.lightning needs Lightning ({error}): pip install 'labelassemble[lightning]'"
    ) from None


class PartialLabelModule(LightningModule):  # type: ignore[misc]
    """A network that is trained as `labelassemble train` does; Lightning's Trainer drives it.

    Of `train` it takes lr, query_lr, weight_decay, plateau and seed; epochs, precision, clipping, devices and the end
    before time are the Trainer's. Logged under the names of metrics.csv: train_loss, train_bce, train_pseudo,
    train_consistency, val_loss, val_auc_mean, val_auc_interest, and val_auc/CLASS.

    Args:
        net: images [B, channels, H, W] to logits [B, C].
        data: the training images.
        loss: weights, threshold, temperature, warm-up and ramp.
        train: the options above.
        validation: how the validation images are scored; None without any.
    """

    def __init__(
        self,
        net: nn.Module,
        data: TrainingData,
        *,
        loss: LossOptions | None = None,
        train: TrainOptions | None = None,
        validation: Validation | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self._data = data
        self._loss_options = loss or LossOptions()
        self._options = train or TrainOptions()
        self._validation = validation
        self._sources = None if data.sources is None else torch.from_numpy(data.sources)
        self._step_loss: StepLoss | None = None
        self._scored: list[tuple[Tensor, Tensor]] = []

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images [B, channels, H, W], [B, C]."""
        logits: Tensor = self.net(images)
        return logits

    def on_fit_start(self) -> None:
        """Make the loss.

        Raises:
            LabelAssembleError: the Trainer accumulates gradients, whose mean over parts is another one.
        """
        trainer = self.trainer
        if trainer.accumulate_grad_batches != 1:
            raise LabelAssembleError(
                "accumulate_grad_batches must be 1, since a mean of parts' means is not the mean over the batch, got "
                f"{trainer.accumulate_grad_batches}: labelassemble train has train.accumulate, which adds up right"
            )
        processes = Processes(trainer.global_rank, trainer.world_size)
        self._step_loss = StepLoss(self._loss_options, self._data, self.device, processes=processes)

    def on_train_epoch_start(self) -> None:
        """Set the weights of the terms: warm-up, then the ramp."""
        self.step_loss.begin(self.current_epoch)

    @property
    def step_loss(self) -> StepLoss:
        """The loss of a step, from the beginning of fitting on."""
        assert self._step_loss is not None
        return self._step_loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Return the loss of this process's part of a step, so that the processes' average is the whole batch's."""
        several = self.trainer.world_size
        seed_step(self._options.seed, self.current_epoch, batch.step, self.global_rank, self.device)
        own = self.step_loss.count(batch.targets)
        whole = self._of_all_processes(own)
        if whole.images == 0 and several == 1:  # all its files are bad
            return None
        weak, strong = self._both_views(batch)
        terms = self.step_loss.terms(
            weak, strong, batch.targets, rows=batch.rows.cpu(), part=own, whole=whole
        )
        self._log_terms(terms, several)
        total: Tensor = terms.total * several
        return total

    def validation_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Keep the answers for some validation images."""
        probabilities = torch.sigmoid(self.net(batch.images).double())
        self._scored.append((batch.rows.cpu(), probabilities.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all validation images."""
        scored, self._scored = self._scored, []
        if self.trainer.sanity_checking or self._validation is None:
            return
        scores = _scores(_gathered(scored), self._validation)
        found = {
            "val_loss": scores.loss,
            "val_auc_mean": scores.auc_mean,
            "val_auc_interest": scores.auc_interest,
        }
        found |= {f"val_auc/{name}": auc for name, auc in zip(self._data.classes, scores.auc, strict=True)}
        self.log_dict({name: value for name, value in found.items() if value is not None})

    def configure_optimizers(self) -> dict[str, Any]:
        """Return Adam, and the plateau by which the learning rate falls where validation images have labels."""
        # Lightning refuses to clip gradients where a fused optimizer undoes the scaling of float16 itself.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        optimizer = adam(self.net, self._options, fused=not scaled)
        if self._validation is None or np.isnan(self._validation.targets).all():
            return {"optimizer": optimizer}
        plateau = self._options.plateau
        scheduler = ReduceLROnPlateau(optimizer, factor=plateau.factor, patience=plateau.patience)
        # Not strict: where none of the labelled images can be read there is no loss, and the rate stays.
        monitored = {"scheduler": scheduler, "monitor": "val_loss", "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": monitored}

    def _both_views(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the logits of both views, which go through the network together, so that BatchNorm sees both."""
        views = [batch.weak] if batch.strong is None else [batch.weak, batch.strong]
        sources = []
        if self._sources is not None:
            sources = [torch.cat([self._sources[batch.rows.cpu()]] * len(views)).to(self.device)]
        logits = self.net(torch.cat(views), *sources).float()
        size = len(batch.weak)
        return logits[:size], None if batch.strong is None else logits[size:]

    def _of_all_processes(self, own: Counts) -> Counts:
        if self.trainer.world_size == 1:
            return own
        values = torch.tensor([*own[:3], *own.known_by_class], dtype=torch.float64, device=self.device)
        images, known, unknown, *each = self.trainer.strategy.reduce(values, reduce_op="sum").tolist()
        return Counts(int(images), int(known), int(unknown), tuple(int(value) for value in each))

    def _log_terms(self, terms: StepTerms, several: int) -> None:
        found = {"loss": terms.loss.total, "bce": terms.loss.bce, "pseudo": terms.loss.pseudo}
        found["consistency"] = terms.loss.consistency
        self.log_dict(
            {f"train_{name}": value.detach() * several for name, value in found.items()},
            on_step=False,
            on_epoch=True,
            batch_size=1,  # a mean over the steps, as in metrics.csv
            sync_dist=several > 1,
        )


class PartialLabelData(LightningDataModule):  # type: ignore[misc]
    """The two views of the training images, in the batches of `labelassemble train`, and the validation images.

    Args:
        data: the training images.
        views: size, channels and augmentation.
        loss: by whose warm-up the strong view is left out while nothing looks at it.
        train: batch_size, steps_per_epoch and seed.
        sources: the source of each training image, where batches are to mix them.
        shares: share of each batch by source; those not named share the rest evenly.
        validation: the validation images; None without any.
    """

    def __init__(
        self,
        data: TrainingData,
        views: ViewOptions,
        *,
        loss: LossOptions | None = None,
        train: TrainOptions | None = None,
        sources: Sequence[str] | None = None,
        shares: Mapping[str, float] | None = None,
        validation: Validation | None = None,
    ) -> None:
        super().__init__()
        self._data = data
        self._views = views
        self._loss = loss or LossOptions()
        self._options = train or TrainOptions()
        self._sources, self._shares = sources, shares
        self._validation = validation

    def train_dataloader(self) -> "_Epochs":
        """Return what yields the batches of the epoch that the Trainer is in, of each this process's part."""
        trainer, options, data = self._trainer(), self._options, self._data
        sampler = Sampler(
            len(data.paths),
            batch_size=options.batch_size,
            seed=options.seed,
            steps_per_epoch=options.steps_per_epoch,
            sources=self._sources,
            shares=self._shares,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        device = trainer.strategy.root_device
        backend = choose_backend(self._views, device)
        views = open_views(backend, data.paths, data.targets, self._views, sampler, device)
        return _Epochs(views, self._loss, trainer)

    def val_dataloader(self) -> "_Evaluated | list[Any]":
        """Return what yields this process's validation images, in the deterministic view."""
        if self._validation is None or not self._validation.paths:
            return []
        return _Evaluated(self._validation, self._views, self._trainer())

    def _trainer(self) -> Trainer:
        assert self.trainer is not None
        return self.trainer


class _Epochs:
    """The steps of whatever epoch the Trainer is in."""

    def __init__(self, views: Views, loss: LossOptions, trainer: Trainer) -> None:
        self._views, self._loss, self._trainer = views, loss, trainer

    def __len__(self) -> int:
        return self._views.steps

    def __iter__(self) -> Iterator[Batch]:
        epoch = self._trainer.current_epoch
        return self._views.epoch(epoch, strong=needs_strong(epoch, self._loss))


class _Evaluated:
    """The validation images of this process, by their row among all of them."""

    def __init__(self, validation: Validation, views: ViewOptions, trainer: Trainer) -> None:
        self._validation, self._views = validation, views
        self._rank, self._count = trainer.global_rank, trainer.world_size

    def __iter__(self) -> Iterator[EvaluationBatch]:
        paths = self._validation.paths[self._rank :: self._count]
        for batch in evaluation_batches(
            paths, self._views, batch_size=64, bad_files=self._validation.bad_files
        ):
            yield EvaluationBatch(batch.rows * self._count + self._rank, batch.images)


class Parts(NamedTuple):
    """What a configuration comes to in Lightning.

    Attributes:
        module: the network and its training step.
        data: the views of its images.
        trainer: arguments of the Trainer: max_epochs, gradient_clip_val, accelerator and precision.
    """

    module: PartialLabelModule
    data: PartialLabelData
    trainer: dict[str, Any]


def from_config(config: Config, *, console: Console | None = None) -> Parts:
    """Return the module and the data of a configuration; its sources are assembled, and nothing is written.

    What `labelassemble train` does around the steps (the early end, trackers, checkpoints, the report) is Lightning's.

    Args:
        config: a validated configuration of a run on images.
        console: shows what is assembled; None shows nothing.

    Raises:
        LabelAssembleError: the configuration has `volumes`, or a key that only `labelassemble train` can honour; no
            training image, and so on.
    """
    if config.volumes is not None:
        raise LabelAssembleError(
            "Lightning's module is for images: train a run with `volumes` by labelassemble train"
        )
    for key, plain in (("accumulate", 1), ("ema", None)):
        if getattr(config.train, key) != plain:
            raise LabelAssembleError(
                f"train.{key} is of labelassemble train alone: leave it out, or use what Lightning has in its place"
            )
    nowhere = Path("/dev/null/run")  # nothing is read from or written to a run's folder
    start = prepare(
        config,
        nowhere,
        resume=False,
        console=console or Console(quiet=True),
        start_from=None,
        branch=False,
    )
    freeze(start.net, config.train, start.origin)
    sampling = resolved_sampling(config.train.sampling, start.data)
    validation = images_to_validate(config, start, config.views)
    data = PartialLabelData(
        start.data,
        config.views,
        loss=config.loss,
        train=config.train,
        sources=None if sampling == "shuffle" else start.sources(),
        shares=sampling if isinstance(sampling, dict) else None,
        validation=validation,
    )
    module = PartialLabelModule(
        start.net, start.data, loss=config.loss, train=config.train, validation=validation
    )
    return Parts(module, data, _trainer_arguments(config.train))


def _trainer_arguments(options: TrainOptions) -> dict[str, Any]:
    found: dict[str, Any] = {"max_epochs": options.epochs, "gradient_clip_val": options.clip_norm}
    found["accelerator"] = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[options.device]
    precisions = {"auto": None, "float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
    return found | {"precision": precisions[options.precision]}


def _gathered(scored: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Return the rows and probabilities that all processes found."""
    if not dist.is_available() or not dist.is_initialized():
        return scored
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, scored)
    return [pair for part in every for pair in part]


def _scores(scored: list[tuple[Tensor, Tensor]], validation: Validation) -> Scores:
    """Return the scores of the validation images that could be read."""
    targets = validation.targets
    probabilities = np.full(targets.shape, np.nan)
    read = np.zeros(len(targets), dtype=np.bool_)
    for rows, found in scored:
        probabilities[rows.numpy()] = found.numpy()
        read[rows.numpy()] = True
    return score_images(probabilities[read], targets[read], validation)
