"""What a training changes: network, optimizer, learning rate, averages and counters, as a checkpoint keeps them."""

import logging
import time
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labelassemble.errors import LabelAssembleError
from labelassemble.head import ClassQueryHead
from labelassemble.loss import LossOptions, PartialLabelLoss
from labelassemble.models.densenet import DenseNet
from labelassemble.models.memory_format import to_channels_last
from labelassemble.training.collapse import CollapseWatch
from labelassemble.training.cuda_graph import CudaRecorder, StepGraphs
from labelassemble.training.data import TrainingData
from labelassemble.training.distributed import (
    SINGLE_PROCESS,
    Processes,
    data_parallel,
    synchronise_batch_norm,
)
from labelassemble.training.losses import StepLoss
from labelassemble.training.options import TrainOptions
from labelassemble.training.running_means import RunningMeans
from labelassemble.training.schedule import Best
from labelassemble.training.speed import choose_speed
from labelassemble.training.validation import Scores
from labelassemble.views.batch import Batch
from labelassemble.views.transfer import to_device

_log = logging.getLogger(__name__)


class TrainState:
    """A training: what `fit` changes, and the options by which it does.

    Args:
        net: on the device where it is to be trained; logits [B, C, *spatial].
        data: the training images.
        loss: weights, threshold, temperature, warm-up, and how many positives a class needs to be pseudo-labelled.
        options: epochs, learning rate and so on.
        processes: that train together, each with the same arguments.
        criterion: the class of the loss, made anew each epoch with these options.

    Attributes:
        net: the network; with several processes its BatchNorms take their statistics over all of them.
        network: the same, compiled if asked for, and adding up gradients over the processes.
        speed: precision, order and compilation of the network, and why.
        optimizer: Adam.
        plateau: lowers the learning rate.
        scaler: of the loss, for float16.
        graphs: what runs a step as a CUDA graph; None where that is not to be.
        ema: averaged weights; None where they are not asked for.
        loss: of a step.
        means: what the steps of the epoch add up to.
        watch: looks for pseudo-labels that go wrong.
        best: the best epoch so far.
        epoch: epochs done.
        step: steps done in the epoch in hand.
    """

    def __init__(
        self,
        net: nn.Module,
        data: TrainingData,
        loss: LossOptions,
        options: TrainOptions,
        *,
        processes: Processes = SINGLE_PROCESS,
        criterion: type[PartialLabelLoss] = PartialLabelLoss,
    ) -> None:
        self.data = data
        self.options = options
        self.processes = processes
        self.device = next(net.parameters()).device
        self.speed = choose_speed(
            options,
            gpu=torch.cuda.get_device_capability(self.device) if self.device.type == "cuda" else None,
            dense=isinstance(backbone := getattr(net, "backbone", None), DenseNet)
            and backbone.out_features >= 1024,
            processes=processes.count,
        )
        if self.speed.channels_last:
            to_channels_last(net, getattr(net, "dims", 2))
        self.net = net if processes.count == 1 else synchronise_batch_norm(net, self.device)
        network = cast(nn.Module, torch.compile(self.net)) if self.speed.compile else self.net
        self.network = network if processes.count == 1 else data_parallel(network)
        self.trained = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self.optimizer = adam(self.net, options)
        self.plateau = ReduceLROnPlateau(
            self.optimizer, factor=options.plateau.factor, patience=options.plateau.patience
        )
        self.precision: torch.dtype = getattr(torch, self.speed.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.graphs: StepGraphs | None = None
        if self.speed.cuda_graph:
            self.graphs = StepGraphs(self.optimizer, CudaRecorder(self.device), self.device)
        self.ema = None if options.ema is None else averaged_model(self.net, options.ema)
        self.loss = StepLoss(loss, data, self.device, criterion, processes)
        self.means = RunningMeans(data.classes, data.paths, processes)
        self.watch = CollapseWatch(
            data.classes, self.loss.positives, data.given_shares, voxels=data.voxels is not None
        )
        self.best = Best()
        self.epoch = 0
        self.step = 0
        self._constants: Hashable = None
        self._started = time.monotonic()
        self._sources = None if data.sources is None else torch.from_numpy(data.sources).to(self.device)
        if processes.first:
            self.loss.log_withheld()

    @property
    def evaluated(self) -> nn.Module:
        """What is validated and kept as best: the averaged weights if there are any."""
        return self.net if self.ema is None else self.ema.module

    @property
    def seconds(self) -> float:
        """Time spent since training began, interruptions left out."""
        return time.monotonic() - self._started

    @property
    def ends_early(self) -> bool:
        """Whether the validation loss has not fallen for too long."""
        patience = self.options.early_stop
        return patience is not None and self.best.epochs_without_fall >= patience

    def begin_epoch(self) -> None:
        """Set the weights of the loss, and the network to training."""
        self.loss.begin(self.epoch)
        self.net.train()
        self._constants = None

    @property
    def constants(self) -> Hashable:
        """What a step depends on beside its batch, as long as an epoch lasts: a graph of it is for these alone."""
        if self._constants is None:
            tensors = [*self.net.parameters(), *self.net.buffers()]
            self._constants = (
                self.loss.weights,
                tuple((tensor.data_ptr(), tensor.requires_grad) for tensor in tensors),
                tuple(module.training for module in self.net.modules()),
            )
        return self._constants

    def end_epoch(self, scores: Scores) -> bool:
        """Adapt the learning rate, count the epoch, and return whether it is the best so far."""
        if scores.loss is not None:
            self.plateau.step(scores.loss)
            counting = self.epoch >= self.loss.options.warmup_epochs
            score = scores.auc_interest if scores.dice_interest is None else scores.dice_interest
            self.best = self.best.update(self.epoch, score, scores.loss, counting=counting)
        else:  # nothing to choose by: the last epoch is the best
            self.best = self.best.update(self.epoch, None, -float(self.epoch), counting=False)
        self.epoch, self.step = self.epoch + 1, 0
        self.means.begin()
        return self.best.epoch == self.epoch - 1

    def on_device(self, batch: Batch) -> Batch:
        """Return a batch whose tensors are all where the network is, rows and targets too, without waiting for it."""
        strong = None if batch.strong is None else to_device(batch.strong, self.device)
        rows, weak, targets = (
            to_device(part, self.device) for part in (batch.rows, batch.weak, batch.targets)
        )
        return Batch(batch.step, rows, weak, strong, targets)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the logits of the weak and of the strong view, float32 [B, C, *spatial].

        Both views go through the network together, so that BatchNorm has the same statistics for both.

        Args:
            batch: on the device, its rows too (`on_device`).
        """
        views = [batch.weak] if batch.strong is None else [batch.weak, batch.strong]
        sources = []
        if self._sources is not None:
            sources = [torch.cat([self._sources[batch.rows]] * len(views))]
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            images = torch.cat(views)
            logits = self._compiled(images, sources) if self.speed.compile else self.network(images, *sources)
        size = len(batch.weak)
        return logits[:size].float(), None if batch.strong is None else logits[size:].float()

    def _compiled(self, images: Tensor, sources: list[Tensor]) -> Tensor:
        """Return the logits of the compiled network, which the first call compiles.

        Raises:
            LabelAssembleError: it cannot be compiled, or what an earlier run left in the compiler's cache is damaged.
        """
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        try:
            logits: Tensor = self.network(images, *sources)
        except (TorchDynamoException, ImportError, EOFError, OSError, SyntaxError) as error:
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            raise LabelAssembleError(
                f"train.compile: torch.compile fails ({reason}): remove its cache {cache_dir()}, which may be damaged "
                "or full, or set train.compile=false"
            ) from error
        return logits

    def gradients_kept(self, *, apart: bool) -> AbstractContextManager[None]:
        """Within this context the gradients of a part are not added up over the processes yet, if they are `apart`."""
        if apart and isinstance(self.network, DistributedDataParallel):
            return self.network.no_sync()
        return nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; the losses of all steps must have been read."""
        return {
            "model": self.net.state_dict(),
            "ema": None
            if self.ema is None
            else {"model": self.ema.module.state_dict(), "updates": int(self.ema.n_averaged) - 1},
            "optimizer": self.optimizer.state_dict(),
            "plateau": self.plateau.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": asdict(self.best),
            "sums": self.means.state_dict(),
            **self.watch.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "processes": self.processes.count,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.plateau.load_state_dict(state["plateau"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"]["model"])
            self.ema.n_averaged.fill_(state["ema"]["updates"] + 1)
        self.means.begin(state["sums"])
        self.watch.load_state_dict(state)
        self.best, self.epoch, self.step = Best(**state["best"]), state["epoch"], state["step"]
        self._started = time.monotonic() - state["seconds"]
        if state["processes"] != self.processes.count and self.processes.first:
            _log.warning(
                "the checkpoint is of %d process(es), going on with %d: the same learning curve, but for rounding",
                state["processes"],
                self.processes.count,
            )


def averaged_model(net: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a network whose weights and BatchNorm statistics follow the trained ones slowly, in eval mode.

    After the t-th step each value becomes d * average + (1 - d) * trained with d = min(decay, (1 + t) / (10 + t)), so
    that the initial weights of a short training are soon forgotten (exponential moving average: Polyak and Juditsky,
    SIAM J. Control Optim. 1992). What is no floating value is copied.
    """

    def follow(
        average: tuple[Tensor, ...] | list[Tensor],
        trained: tuple[Tensor, ...] | list[Tensor],
        _: Tensor | int,
    ) -> None:
        if not average[0].is_floating_point():
            torch._foreach_copy_(average, trained)
            return
        updates = int(model.n_averaged)  # on the CPU, so that nothing waits for a GPU
        warmed_up = min(decay, (1 + updates) / (10 + updates))
        get_ema_multi_avg_fn(warmed_up)(average, trained, updates)  # type: ignore[no-untyped-call]

    model = AveragedModel(net, multi_avg_fn=follow, use_buffers=True)
    model.n_averaged.fill_(1)  # the initial weights count, or the first step would replace them
    return model.eval().requires_grad_(False)


def adam(net: nn.Module, options: TrainOptions, *, fused: bool = True) -> torch.optim.Adam:
    """Return the optimizer of what is trained in a network, with the learning rates and the penalty of the options.

    Args:
        net: the network.
        options: the options.
        fused: one kernel for all parameters: on a CPU a step takes as long as with one a parameter, or a few percent
            less.
    """
    return torch.optim.Adam(
        _parameter_groups(net, options), lr=options.lr, weight_decay=options.weight_decay, fused=fused
    )


def _parameter_groups(net: nn.Module, options: TrainOptions) -> list[dict[str, Any]]:
    """Return what is trained, the class queries with a learning rate of their own unless nothing else is trained."""
    queries = {id(part.queries) for part in net.modules() if isinstance(part, ClassQueryHead)}
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    slow = [parameter for parameter in trained if id(parameter) in queries]
    fast = [parameter for parameter in trained if id(parameter) not in queries]
    if options.query_lr == 1.0 or not slow or not fast:
        return [{"params": trained}]
    return [{"params": fast}, {"params": slow, "lr": options.lr * options.query_lr}]
