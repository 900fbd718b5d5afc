import io

from rich.console import Console

from labelassemble.training.display import Display
from labelassemble.training.history import EpochRow


def _row(epoch: int, step: int) -> EpochRow:
    return EpochRow(
        epoch=epoch,
        step=step,
        seconds=1.0,
        learning_rate=1e-3,
        pseudo_weight=0.0,
        consistency_weight=0.0,
        train_loss=0.25,
        train_bce=0.25,
        train_pseudo=0.0,
        train_consistency=0.0,
        train_known=30,
        train_unknown=90,
        val_loss=0.5,
        val_auc_mean=0.8,
        val_auc_interest=None,
        images_per_second=40.0,
        val_auc=(0.8, None),
        pseudo_positive=(None, None),
    )


def _shown(*, terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100)
    with Display(console, "run", epochs=2, steps=3) as display:
        display.step(0, 3, 0.25)
        display.epoch(_row(1, 3))
        display.step(1, 6, 0.125)
        display.epoch(_row(2, 6))
    return output.getvalue()


def test_elsewhere_than_on_a_terminal_it_is_a_line_an_epoch() -> None:
    lines = _shown(terminal=False).strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "run: epoch 1/2, loss 0.2500, val loss 0.5000, val AUC 0.800, 25% of labels known, "
    )
    assert lines[1].endswith("0 s left")


def test_on_a_terminal_it_is_a_bar_with_epoch_loss_and_time_left() -> None:
    shown = _shown(terminal=True)
    assert "epoch 2/2" in shown
    assert "0.1250" in shown
    assert "val AUC 0.800" in shown
    assert "left" in shown
    assert "100%" in shown
