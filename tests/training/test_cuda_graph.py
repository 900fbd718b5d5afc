"""Steps that replay a recorded graph learn what steps without one learn, and what cannot be recorded runs without."""

import gc
import logging
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from labelassemble.errors import LabelAssembleError
from labelassemble.training import losses
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.training.cuda_graph import CudaRecorder, Recording, StepGraphs, quickest_convolutions
from labelassemble.training.loop import train_step
from labelassemble.training.options import TrainOptions
from labelassemble.training.speed import choose_speed
from labelassemble.training.state import TrainState
from labelassemble.training.steps import Step
from labelassemble.views.batch import Batch

from .shaped_training import NAN, STEPS, ShapedViews, assert_alike, fit_into, small_net, small_state

CPU = torch.device("cpu")


class _Operations(TorchDispatchMode):
    """Notes the operations of torch that run within it, those of the backward pass too."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {each.untyped_storage().data_ptr() for each in _tensors_of((args, kwargs))}
        made = _tensors_of(result)
        if func._schema.is_mutable or not {each.untyped_storage().data_ptr() for each in made} <= given:
            self._noted.append((func, args, kwargs or {}, made))  # all but views, which show the same memory
        return result

    def again(self) -> None:
        """Do all of it again with what its inputs hold now, into the same memory."""
        with torch.no_grad():
            for func, args, kwargs, made in self._noted:
                for kept, new in zip(made, _tensors_of(func(*args, **kwargs)), strict=True):
                    if kept.data_ptr() != new.data_ptr():
                        kept.detach().copy_(new)


def _tensors_of(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


class HostRecorder:
    """Does on the CPU what a GPU does with a graph: recording executes nothing, and replays write the same memory.

    A replay runs operations and no Python: a number that the function took from Python stays what it was.

    Args:
        net: whose gradients and buffers a step changes.
        failure: with which recording ends, once the function has been called.

    Attributes:
        recorded: graphs recorded.
        replayed: replays of them.
    """

    def __init__(self, net: nn.Module, failure: str = "") -> None:
        self._net, self._failure = net, failure
        self.recorded, self.replayed = 0, 0

    def beside(self) -> AbstractContextManager[None]:
        return nullcontext()

    def measure(self) -> None:
        pass

    def settle(self, *, first: bool) -> None:
        pass

    def record(self, function: Callable[[], Tensor]) -> Recording:
        parameters = list(self._net.parameters())
        assert all(parameter.grad is None for parameter in parameters)
        buffers = [buffer.clone() for buffer in self._net.buffers()]
        state = torch.get_rng_state()
        operations = _Operations()
        with operations:
            result = function()
        torch.set_rng_state(state)
        for buffer, before in zip(self._net.buffers(), buffers, strict=True):
            buffer.copy_(before)
        if self._failure:
            raise RuntimeError(self._failure + "\nand a second line")
        gradients = [parameter.grad for parameter in parameters]
        for poisoned in (result, *(gradient for gradient in gradients if gradient is not None)):
            poisoned.fill_(NAN)  # nothing has been executed yet

        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            for parameter, gradient in zip(parameters, gradients, strict=True):
                assert parameter.grad is gradient, "the optimizer would not find what the graph writes"
            operations.again()

        return Recording(result, replay)


class GpuRecorder(CudaRecorder):
    """Counts what it records and what is replayed of it."""

    recorded, replayed = 0, 0

    def record(self, function: Callable[[], Tensor]) -> Recording:
        recording = super().record(function)
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            recording.replay()

        return Recording(recording.result, replay)


def _with_graphs(state: TrainState, failure: str = "") -> HostRecorder:
    """Let a training run graphs on the CPU, and return what records them."""
    recorder = HostRecorder(state.net, failure)
    state.graphs = StepGraphs(state.optimizer, recorder, CPU)
    return recorder


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ({}, {"ema": 0.9, "clip_norm": 0.5}),
        ({"known_mean": "class", "strong_known": True, "min_positives": 2}, {}),
        ({"class_weight": {"north": 2.0}, "pos_weight": "balanced", "ramp_epochs": 2}, {}),
        ({"exclusive": True, "dice_weight": 0.5, "class_weight": {"north": 2.0}}, {}),
    ],
    ids=["averaged", "by_class", "weighted", "rules"],
)
def test_graphs_learn_what_plain_steps_learn(
    tmp_path: Path, loss: dict[str, Any], options: dict[str, Any]
) -> None:
    """Also where each epoch has a shape of its own in between, whose gradients are not the graph's."""
    plain, graphed = small_net(), small_net()
    expected, state = (
        small_state(net, loss=loss, exclusive="exclusive" in loss, epochs=3, **options)
        for net in (plain, graphed)
    )
    graphs = _with_graphs(state)
    assert fit_into(state, tmp_path / "graphs") == fit_into(expected, tmp_path / "plain")
    assert_alike(graphed, plain)
    if expected.ema is not None:
        assert state.ema is not None
        assert_alike(state.ema, expected.ema)
    # The weights of the terms differ between the epochs of a ramp: each has graphs of its own.
    per_epoch = STEPS - 1 - 3
    assert state.graphs is not None
    assert state.graphs.failure == ""
    assert graphs.recorded == (3 if "ramp_epochs" in loss else 2)
    assert graphs.replayed == (3 * per_epoch if "ramp_epochs" in loss else 3 * per_epoch + 3)


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = small_state(small_net())
    _with_graphs(whole)
    expected = fit_into(whole, tmp_path / "whole")
    first = small_state(small_net())
    _with_graphs(first)
    fit_into(first, tmp_path / "parts", until=1)
    again = small_state(small_net())
    again.load_state_dict(load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt"))
    graphs = _with_graphs(again)
    assert fit_into(again, tmp_path / "parts") == expected
    assert graphs.replayed == STEPS - 1 - 3
    assert_alike(again.net, whole.net)


def test_a_shape_is_recorded_after_three_steps_and_four_are_kept() -> None:
    plain, state, views = small_state(small_net()), small_state(small_net()), ShapedViews()
    graphs = _with_graphs(state)
    plain.begin_epoch()
    state.begin_epoch()

    def step(size: int, strong: bool = False) -> None:
        batch = views.batch(0, 0, strong=strong, size=size)
        for each in (plain, state):
            train_step(each, Step(batch, each.loss.count(batch.targets), stop=False))

    for repeat in range(5):
        step(8)
        assert graphs.replayed == max(0, repeat - 2)
    for size in (2, 3, 4, 5):
        for _ in range(4):
            step(size)
    assert (graphs.recorded, graphs.replayed) == (4, 5)  # none of the fifth shape
    step(8)
    step(8, strong=True)
    step(4)
    assert (graphs.recorded, graphs.replayed) == (4, 7)
    # All are read at once: what a replay leaves must outlast the next one.
    assert state.means.read(0) == plain.means.read(0) == 6 * 8 + 4 * (2 + 3 + 4 + 5) + 8 + 4
    assert state.means.sums == plain.means.sums
    assert_alike(state.net, plain.net)


def test_memory_is_given_back_once_no_graph_holds_it(tmp_path: Path) -> None:
    """What torch keeps for a graph that is gone it keeps from other processes, until it is asked to give it back."""
    held: list[bool] = []

    class Weak(HostRecorder):
        results: tuple[weakref.ref[Tensor], ...] = ()

        def settle(self, *, first: bool) -> None:
            gc.collect()
            held.append(any(result() is not None for result in self.results))

        def record(self, function: Callable[[], Tensor]) -> Recording:
            recording = super().record(function)
            self.results += (weakref.ref(recording.result),)
            return recording

    state = small_state(small_net())
    state.graphs = StepGraphs(state.optimizer, Weak(state.net), CPU)
    fit_into(state, tmp_path / "run")
    assert held[-2:] == [True, False]
    assert all(parameter.grad is None for parameter in state.trained)


def test_graphs_of_other_weights_are_forgotten() -> None:
    """A weight that changes at each step would have each of them recorded: they run without a graph."""
    state, views = small_state(small_net(), loss={"warmup_epochs": 0}), ShapedViews()
    graphs = _with_graphs(state)
    batch = views.batch(0, 0, strong=True)
    for epoch in range(5):
        state.begin_epoch()
        state.loss.weights = state.loss.weights._replace(pseudo=0.1 * (epoch + 1))
        state.loss.criterion.pseudo_weight = 0.1 * (epoch + 1)
        train_step(state, Step(batch, state.loss.count(batch.targets), stop=False))
    assert (graphs.recorded, graphs.replayed) == (0, 0)
    for _ in range(4):
        train_step(state, Step(batch, state.loss.count(batch.targets), stop=False))
    assert (graphs.recorded, graphs.replayed) == (1, 2)
    state.net.requires_grad_(False)[0].requires_grad_(True)
    state.begin_epoch()
    train_step(state, Step(batch, state.loss.count(batch.targets), stop=False))
    assert (graphs.recorded, graphs.replayed) == (1, 2)


def test_what_cannot_be_recorded_runs_without_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, failing = small_net(), small_net()
    state = small_state(failing)
    graphs = _with_graphs(state, failure="operation not permitted when stream is capturing")
    with caplog.at_level(logging.WARNING):
        found = fit_into(state, tmp_path / "failing")
    assert found == fit_into(small_state(plain), tmp_path / "plain")
    assert_alike(failing, plain)
    said = [record.getMessage() for record in caplog.records if "CUDA graph" in record.getMessage()]
    assert said == [
        "no CUDA graph of a step can be recorded, so steps run without: operation not permitted when stream is "
        "capturing (train.cuda_graph=false does not try)"
    ]
    assert (graphs.recorded, graphs.replayed) == (0, 0)


def test_what_the_loss_refused_is_told_though_no_call_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the call after the one that refused a value raises; replays make no calls."""

    def refuse(*_: object) -> Tensor:
        raise RuntimeError(
            "partial_label_loss: targets must lie in [0, 1], got 7 in an earlier call on CUDA, whose loss is NaN\nC++"
        )

    losses.raise_refused(CPU)
    monkeypatch.setattr(losses, "partial_label_loss", refuse)
    with pytest.raises(LabelAssembleError, match=r"^partial_label_loss: targets .* got 7 .* is NaN$"):
        losses.raise_refused(CPU)
    last = nn.Linear(64, 3)
    nn.init.constant_(last.bias, NAN)
    net = nn.Sequential(nn.Flatten(), last)
    sentence = (
        r"the loss is nan in epoch 1, step 1: partial_label_loss: targets must .* got 7 .*; not finite: bce"
    )
    with pytest.raises(LabelAssembleError, match=sentence):
        fit_into(small_state(net), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "gpu", "processes", "obstacle"),
    [
        ({}, (9, 0), 1, ""),
        ({}, None, 1, "the network trains on the processor"),
        ({}, (9, 0), 2, "2 processes exchange gradients while they compute them"),
        ({"accumulate": 2}, (9, 0), 1, r"train\.accumulate=2 divides a step"),
        ({"compile": True}, (9, 0), 1, r"train\.compile=true makes its own kernels"),
        ({"precision": "float16"}, (9, 0), 1, "the scale of float16 changes between steps"),
    ],
)
def test_a_step_is_a_graph_where_it_can_be_and_true_says_why_not(
    options: dict[str, Any], gpu: tuple[int, int] | None, processes: int, obstacle: str
) -> None:
    def speed(cuda_graph: bool | str) -> Any:
        asked = TrainOptions.model_validate({**options, "cuda_graph": cuda_graph})
        return choose_speed(asked, gpu=gpu, flags=frozenset({"avx512_fp16"}), processes=processes)

    assert [speed(asked).cuda_graph for asked in ("auto", True, False)] == [not obstacle, not obstacle, False]
    assert (", a CUDA graph a step: " in speed("auto").to_text()) == (not obstacle)
    assert [speed(asked).warning for asked in ("auto", False)] == ["", ""]
    expected = f"train.cuda_graph=true makes no graph: {obstacle}".replace("\\", "") if obstacle else ""
    assert speed(True).warning == expected


def test_cudnn_looks_for_the_quickest_on_a_gpu_unless_runs_must_be_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cudnn = torch.backends.cudnn
    gpu = torch.device("cuda")

    def found(device: torch.device) -> bool:
        with quickest_convolutions(device):
            return bool(cudnn.benchmark)

    assert [found(CPU), found(gpu), cudnn.benchmark] == [False, True, False]
    with monkeypatch.context() as patched:
        patched.setattr(cudnn, "deterministic", True)
        assert not found(gpu)
    assert found(gpu)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert not found(gpu)


@pytest.fixture
def same_in_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions that give the same bits in each run."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def _on_gpu(*, cuda_graph: bool = True, net: nn.Module | None = None, **options: Any) -> TrainState:
    net = (small_net() if net is None else net).to("cuda")
    options = {"ema": 0.9, "clip_norm": 0.5, "cuda_graph": cuda_graph, **options}
    return small_state(net, loss={"strong_known": True}, exclusive=True, **options)


def _counted(state: TrainState) -> GpuRecorder:
    """Return what counts the graphs of a training on a GPU, which takes the place of the one that does not."""
    assert state.graphs is not None
    recorder = GpuRecorder(state.device)
    state.graphs = StepGraphs(state.optimizer, recorder, state.device)
    return recorder


@pytest.mark.cuda
@pytest.mark.usefixtures("same_in_each_run")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_graphs_learn_what_plain_steps_learn(tmp_path: Path, precision: str) -> None:
    """Twelve steps of two views, two smaller ones among them, with dropout, rules and averaged weights."""
    states = [_on_gpu(cuda_graph=graph, precision=precision) for graph in (False, True)]
    graphs = _counted(states[1])
    rows = [
        fit_into(state, tmp_path / name).split("\n")
        for state, name in zip(states, ("plain", "graphs"), strict=True)
    ]
    plain, graphed = states
    assert plain.graphs is None
    assert graphed.graphs is not None
    assert graphed.graphs.failure == ""
    assert graphs.recorded == 2  # of the warm-up, and of the epoch after it
    assert graphs.replayed == 2 * (STEPS - 1 - 3)
    tolerance = 1e-5 if precision == "float32" else 1e-2
    for one, two in zip(*(table[1:] for table in rows), strict=True):
        for cell, other in zip(one.split(","), two.split(","), strict=True):
            assert (not cell and not other) or float(cell) == pytest.approx(
                float(other), rel=tolerance, abs=tolerance
            )
    assert_alike(graphed.net, plain.net, tolerance=tolerance)
    assert plain.ema is not None
    assert graphed.ema is not None
    assert_alike(graphed.ema, plain.ema, tolerance=tolerance)


@pytest.mark.cuda
@pytest.mark.usefixtures("same_in_each_run")
def test_on_a_gpu_a_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = _on_gpu()
    fit_into(whole, tmp_path / "whole")
    first = _on_gpu()
    fit_into(first, tmp_path / "parts", until=1)
    again = _on_gpu()
    graphs = _counted(again)
    again.load_state_dict(load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt"))
    fit_into(again, tmp_path / "parts")
    assert graphs.replayed == STEPS - 1 - 3
    assert_alike(again.net, whole.net, tolerance=1e-5)


class _Reads(nn.Module):
    """Reads a value of the device at each step."""

    def forward(self, images: Tensor) -> Tensor:
        return images * (1.0 if float(images.abs().max()) > 0 else 0.5)


@pytest.mark.cuda
@pytest.mark.usefixtures("same_in_each_run")
def test_on_a_gpu_a_network_that_reads_values_runs_without_a_graph(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Dropout draws from the generator that a failed recording has left, and all other work goes on."""
    plain = _on_gpu(cuda_graph=False)
    fit_into(plain, tmp_path / "plain")
    net = nn.Sequential(_Reads(), *small_net())
    state = _on_gpu(net=net)
    graphs = _counted(state)
    with caplog.at_level(logging.WARNING):
        fit_into(state, tmp_path / "reads")
    assert state.graphs is not None
    assert "captur" in state.graphs.failure
    assert (graphs.recorded, graphs.replayed) == (0, 0)
    assert sum("no CUDA graph of a step can be recorded" in each.getMessage() for each in caplog.records) == 1
    pairs = zip(net.parameters(), plain.net.parameters(), strict=True)
    for parameter, expected in pairs:
        torch.testing.assert_close(parameter, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.cuda
def test_on_a_gpu_a_refused_target_in_a_graph_is_named(tmp_path: Path) -> None:
    class Spoilt(ShapedViews):
        def batch(self, epoch: int, step: int, *, strong: bool, size: int | None = None) -> Batch:
            batch = super().batch(epoch, step, strong=strong, size=size)
            if step == 4:
                batch.targets[0, 0] = 7.0
            return batch

    state = _on_gpu()
    graphs = _counted(state)
    with pytest.raises(LabelAssembleError, match=r"step 5: partial_label_loss: targets must lie in .* got 7"):
        fit_into(state, tmp_path / "run", views=Spoilt(last=8))
    assert graphs.replayed == STEPS - 3
    losses.raise_refused(state.device)  # once told, it is no more
