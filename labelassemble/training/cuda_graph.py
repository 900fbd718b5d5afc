"""Forward, loss and backward of a step as one CUDA graph, for batches of a shape that has come before.

A step of a DenseNet launches thousands of small kernels one by one, and a large GPU is done with each before the host
has launched the next. A graph holds them all, and one launch replays it.
"""

import gc
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from labelassemble.training.losses import raise_refused
from labelassemble.views.batch import Batch
from labelassemble.views.transfer import pinned_for

_EAGER = 3  # steps of a shape before it is recorded: cuDNN chooses, and libraries take their memory
_MOST = 4  # graphs that are kept, each with gradients of its own

_log = logging.getLogger(__name__)


class Recording(NamedTuple):
    """What was recorded of a function.

    Attributes:
        result: what the function returned; each replay writes it anew.
        replay: does again what the function asked of the GPU, with the values that its inputs have then.
    """

    result: Tensor
    replay: Callable[[], None]


class Recorder(Protocol):
    """What records on a device."""

    def beside(self) -> AbstractContextManager[None]:
        """Within this context work goes to the stream that is recorded, after what came before and before the rest."""
        ...

    def measure(self) -> None:
        """Note how much memory is in use: the next step shows how much more it takes."""
        ...

    def settle(self, *, first: bool) -> None:
        """Wait for the device, give back memory that nothing holds, and with `first` share none with earlier graphs."""
        ...

    def record(self, function: Callable[[], Tensor]) -> Recording:
        """Return a recording of the function, which is called but not executed on the device.

        Raises:
            RuntimeError: it cannot be recorded; nothing of it is left.
        """
        ...


class CudaRecorder:
    """Records CUDA graphs in one stream; they share their memory, as no two of them run at once.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = torch.device(
            "cuda", torch.cuda.current_device() if device.index is None else device.index
        )
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._before_step = 0
        self._shares = False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Within this context work goes to the stream that is recorded, after what came before and before the rest.

        Steps that are not recorded run there too: what autograd and cuBLAS keep belongs to a stream.
        """
        outer = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outer)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outer.wait_stream(self._stream)

    def measure(self) -> None:
        """Note how much memory is in use: the next step shows how much more it takes."""
        torch.cuda.reset_peak_memory_stats(self._device)
        self._before_step = torch.cuda.memory_allocated(self._device)

    def settle(self, *, first: bool) -> None:
        """Wait for the device, give back memory that nothing holds, and with `first` share none with earlier graphs."""
        torch.cuda.synchronize(self._device)
        gc.collect()
        self._shares = not first
        if first:
            self._pool = torch.cuda.graph_pool_handle()  # torch refuses a pool whose graphs are all gone
        torch.cuda.empty_cache()

    def record(self, function: Callable[[], Tensor]) -> Recording:
        """Return a CUDA graph of the function, which is called within `beside`.

        Raises:
            RuntimeError: the function waits for the device or reads from it, or memory does not suffice.
        """
        self._check_memory()
        graph = torch.cuda.CUDAGraph()
        try:
            # Threads that make views go on meanwhile: a mode that looks at this one alone.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            result = function()
            graph.capture_end()
        except BaseException:
            self._give_up(graph)
            raise
        return Recording(result, graph.replay)

    def _check_memory(self) -> None:
        """Raise where a step that is not recorded, such as the last of an epoch, would not fit beside the graph."""
        step = torch.cuda.max_memory_allocated(self._device) - self._before_step
        free, _ = torch.cuda.mem_get_info(self._device)
        if free < (1 if self._shares else 2) * step:
            raise RuntimeError(
                f"a step takes {step / 2**20:.0f} MiB, and with {free / 2**20:.0f} MiB free a graph would leave no "
                "room for the steps that run without it"
            )

    def _give_up(self, graph: torch.cuda.CUDAGraph) -> None:
        """End what was begun: torch leaves stream, memory and generator in the state in which it failed."""
        with suppress(RuntimeError):
            graph.capture_end()
        graph.reset()
        with suppress(
            RuntimeError, AttributeError
        ):  # raises where the end above has closed the memory already
            torch._C._cuda_endAllocateToPool(self._device.index, self._pool)
            torch._C._cuda_releasePool(self._device.index, self._pool)
        with suppress(RuntimeError):
            generator = torch.cuda.default_generators[self._device.index]
            generator.graphsafe_set_state(generator.clone_state())  # one that no graph records
        torch.cuda.empty_cache()


@contextmanager
def quickest_convolutions(device: torch.device) -> Iterator[None]:
    """Within this context cuDNN tries its algorithms on each new shape, and takes the quickest from then on.

    Not where torch is asked for what is the same in each run: the quickest may be another one in the next.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark
    same = torch.are_deterministic_algorithms_enabled() or cudnn.deterministic
    cudnn.benchmark = before or (device.type == "cuda" and not same)
    try:
        yield
    finally:
        cudnn.benchmark = before


class _Graph(NamedTuple):
    """A recorded step.

    Attributes:
        inputs: whose values each replay reads.
        recording: of the step.
        gradients: each parameter with the gradient that each replay writes, None for one without.
        kept: what must stay in memory, as the graph reads it.
    """

    inputs: Batch
    recording: Recording
    gradients: list[tuple[nn.Parameter, Tensor | None]]
    kept: object


class StepGraphs:
    """Runs forward, loss and backward of steps, as a graph where one was recorded of a batch of the same shape.

    A context manager: on leaving it, the graphs and their memory are given back.

    The first steps of a shape run as they would without, and so does every step of a shape beyond the first few. What
    the function of a step does in Python alone is done once, while it is recorded; all numbers that it takes from
    there must be among the constants of `run`.

    Args:
        optimizer: whose parameters get the gradients.
        recorder: of the device.
        device: where the network is.

    Attributes:
        failure: why nothing is recorded any more; "" while all is well.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recorder: Recorder, device: torch.device) -> None:
        self._optimizer = optimizer
        self._recorder = recorder
        self._device = device
        self._constants: Hashable = None
        self._seen: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, _Graph] = {}
        self._last: _Graph | None = None  # whose gradients the parameters have
        self.failure = ""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the graphs back, and the gradients that lie in their memory."""
        graphs = bool(self._graphs)
        if graphs:
            self._optimizer.zero_grad(set_to_none=True)
        self._forget()
        if graphs:  # what is forgotten is torch's still, and kept from other processes
            self._recorder.settle(first=False)

    def run(
        self,
        batch: Batch,
        function: Callable[[Batch], Tensor],
        on_device: Callable[[Batch], Batch],
        *,
        constants: Hashable,
        kept: object,
    ) -> Tensor:
        """Return what the function returns of a batch; the parameters have their gradients then, and no others.

        Args:
            batch: of the host or the device.
            function: adds gradients, and returns a tensor without one; its batch is on the device.
            on_device: brings a batch there.
            constants: what the function depends on beside the batch; graphs of other constants are forgotten.
            kept: what must stay in memory as long as a graph of the function.

        Raises:
            LabelAssembleError: a value of an earlier step that the loss refused.
        """
        if self.failure:
            return self._eager(on_device(batch), function)
        if constants != self._constants:
            self._forget()
            self._constants = constants
        with self._recorder.beside():
            key = _shapes(batch)
            graph = self._graphs.get(key)
            if graph is None and self._seen[key] >= _EAGER and len(self._graphs) < _MOST:
                graph = self._record(key, on_device(batch), function, kept)
            if graph is None:
                self._seen[key] += 1
                if self._seen[key] == _EAGER:
                    self._recorder.measure()
                return self._eager(on_device(batch), function)
            return self._replay(graph, batch)

    def _eager(self, batch: Batch, function: Callable[[Batch], Tensor]) -> Tensor:
        self._last = None
        self._optimizer.zero_grad(set_to_none=True)
        return function(batch)

    def _replay(self, graph: _Graph, batch: Batch) -> Tensor:
        for kept, given in zip(_tensors(graph.inputs), _tensors(batch), strict=True):
            kept.copy_(pinned_for(given, self._device), non_blocking=True)
        if self._last is not graph:  # others lay between: the optimizer must find what this graph writes
            for parameter, gradient in graph.gradients:
                parameter.grad = gradient
            self._last = graph
        graph.recording.replay()
        return graph.recording.result.clone()

    def _record(
        self, key: Hashable, batch: Batch, function: Callable[[Batch], Tensor], kept: object
    ) -> _Graph | None:
        """Return a graph that holds the function of batches like this one, or None where there can be none."""
        rows, weak, targets = (part.clone() for part in (batch.rows, batch.weak, batch.targets))
        strong = None if batch.strong is None else batch.strong.clone()
        inputs = Batch(batch.step, rows, weak, strong, targets)
        # Gradients must be those of the graph's memory.
        self._last = None
        self._optimizer.zero_grad(set_to_none=True)
        self._recorder.settle(first=not self._graphs)
        raise_refused(self._device)  # else it would be taken for what cannot be recorded
        try:
            recording = self._recorder.record(lambda: function(inputs))
        except RuntimeError as error:
            self._fail(error)
            return None
        gradients = [
            (parameter, parameter.grad)
            for group in self._optimizer.param_groups
            for parameter in group["params"]
        ]
        self._graphs[key] = graph = _Graph(inputs, recording, gradients, kept)
        self._last = graph
        return graph

    def _fail(self, error: RuntimeError) -> None:
        """Record nothing any more, and say so once."""
        self.failure = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        self._forget()
        self._optimizer.zero_grad(set_to_none=True)
        _log.warning(
            "no CUDA graph of a step can be recorded, so steps run without: %s (train.cuda_graph=false does not try)",
            self.failure,
        )

    def _forget(self) -> None:
        """Let go of all graphs and of what is known of shapes."""
        if self._graphs:
            self._recorder.settle(first=False)  # a replay may still run
        self._graphs.clear()
        self._seen.clear()
        self._last = None


def _tensors(batch: Batch) -> list[Tensor]:
    parts = (batch.rows, batch.weak, batch.strong, batch.targets)
    return [part for part in parts if part is not None]


def _shapes(batch: Batch) -> Hashable:
    """Return what batches of one graph have in common."""
    return batch.strong is None, *((part.shape, part.dtype) for part in _tensors(batch))
