"""Ctrl-C ends training after the step in hand, so that it can go on from there."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(Exception):
    """Training was asked to stop; the last checkpoint holds everything up to `step` of `epoch` (from 0)."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(f"training stopped in epoch {epoch + 1} after step {step}")
        self.epoch = epoch
        self.step = step


class StopRequest:
    """Within this context the first Ctrl-C or SIGTERM sets `requested`; a second one interrupts at once.

    Outside the main thread, where Python takes no signals, it does nothing.

    Args:
        patient: let further signals pass: torchrun hands on a Ctrl-C that its processes had from the terminal already,
            and ends those that do not end by themselves.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.requested = False
        self._patient = patient
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested and not self._patient:
            raise KeyboardInterrupt
        self.requested = True
