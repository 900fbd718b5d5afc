import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from labelassemble.training import display as display_module
from labelassemble.training.display import Display

sys.path.insert(0, str(Path(__file__).parent))
from epoch_rows import ROW


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def _shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, seconds_a_step: float = 2.0) -> str:
    clock = _Clock()
    monkeypatch.setattr(display_module, "time", clock)
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=200)
    with Display(console, "run", epochs=2, steps=3) as display:
        for step in range(1, 7):
            clock.now += seconds_a_step
            epoch = (step - 1) // 3
            display.step(epoch, step, [0.25 / step, 0.2, 0.04, 0.01], images=16, known_share=0.25)
            if step % 3 == 0:
                display.epoch(replace(ROW, epoch=epoch + 1, step=step))
    return output.getvalue()


def test_elsewhere_than_on_a_terminal_it_is_a_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _shown(monkeypatch, terminal=False).strip().splitlines()
    assert lines == [
        "run: epoch 1/2, loss 0.2500 (bce 0.1250, pseudo 0.0625, consistency 0.0312), val loss 0.5000, val AUC 0.800, "
        "40 images/s, 25% of labels known, 6 s left",
        "run: epoch 2/2, loss 0.2500 (bce 0.1250, pseudo 0.0625, consistency 0.0312), val loss 0.5000, val AUC 0.800, "
        "40 images/s, 25% of labels known, 0 s left",
    ]


def test_in_a_long_epoch_there_is_a_line_every_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _shown(monkeypatch, terminal=False, seconds_a_step=16.0).strip().splitlines()
    assert len(lines) == 4
    assert lines[0] == (
        "run: epoch 1/2, step 2/3, loss 0.1250 (bce 0.2000, pseudo 0.0400, consistency 0.0100) "
        "1 images/s 25% known, 64 s left"
    )
    assert "step" not in lines[1]
    assert lines[2].startswith("run: epoch 2/2, step 2/3, ")


def test_on_a_terminal_it_is_a_bar_with_all_there_is_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _shown(monkeypatch, terminal=True)
    for part in ("epoch 2/2, step 3/3", "loss 0.0417 (bce 0.2000, pseudo 0.0400, consistency 0.0100)", "8 images/s",
                 "25% known", "val AUC 0.800", "left", "100%"):  # fmt: skip
        assert part in shown, part
