"""Learning curves: the shares of pseudo-labels that are drawn, and what is said of them."""

from labelassemble.report.sections import learning_plots
from labelassemble.training.curves import Curves, read_curves
from labelassemble.training.history import COLUMNS


def curves(pseudo_weight, pseudo_positive):
    """Return the curves of a training whose other columns do not change."""
    epochs = tuple(range(1, len(pseudo_weight) + 1))
    columns = {name: (0.8,) * len(epochs) for name in COLUMNS}
    weights = dict.fromkeys(("pseudo_weight", "consistency_weight"), pseudo_weight)
    return Curves(epochs, columns | weights, pseudo_positive)


def test_shares_of_positive_pseudo_labels_are_drawn_where_they_are_recorded():
    plots = learning_plots(curves((1, 1), {}), several=True, interest=("b",))
    assert [plot.name for plot in plots] == ["Loss", "AUROC on validation images"]
    shares = {"a": (None, None), "b": (0.25, 0.5)}
    plots = learning_plots(curves((1, 1), shares), several=True, interest=("b",))
    assert plots[-1].name == "Unknown labels that the model takes for positive"
    assert [entry[1:] for entry in plots[-1].legend] == [("b", "last epoch: 0.500")]
    assert plots[-1].note == ""


def test_a_collapse_stands_under_the_shares_of_whichever_class_it_is():
    shares = {"a": (None, 0.0, 0.0, 0.0, 0.0), "b": (None, 0.2, 0.2, 0.2, 0.2)}
    plots = learning_plots(curves((0, 1, 1, 1, 1), shares), several=True, interest=("b",))
    dotted, said = plots[-1].note.split(". ", 1)
    assert dotted == "Dotted line: pseudo-labels count from epoch 2 on"
    assert said.startswith("Epoch 4: the pseudo-labels of 'a' have all been negative for 3 epochs")
    assert [plot.note for plot in plots[:-1]] == [f"{dotted}."] * 2


def test_of_volumes_the_dice_is_drawn_by_which_the_best_epoch_is_chosen(tmp_path):
    header = [*COLUMNS, "train_dice", "val_dice_interest", "val_dice:b"]
    rows = [[str(epoch) if name == "epoch" else "0.5" for name in header] for epoch in (1, 2)]
    rows[1][header.index("val_dice_interest")] = "0.75"
    (tmp_path / "metrics.csv").write_text("\n".join(",".join(row) for row in (header, *rows)) + "\n")
    plots = learning_plots(read_curves(tmp_path / "metrics.csv"), several=True, interest=("b",))
    names = ["Loss", "Dice of the validation cases", "AUROC on voxels of the validation cases"]
    assert [plot.name for plot in plots] == names
    assert plots[1].legend == ((0, "classes of interest", "last epoch: 0.750"),)
