"""A row of metrics.csv for tests of what shows it."""

from labelassemble.training.history import EpochRow

ROW = EpochRow(
    epoch=1,
    step=3,
    seconds=1.0,
    learning_rate=1e-3,
    pseudo_weight=0.0,
    consistency_weight=0.0,
    train_loss=0.25,
    train_bce=0.125,
    train_pseudo=0.0625,
    train_consistency=0.03125,
    train_known=30,
    train_unknown=90,
    val_loss=0.5,
    val_auc_mean=0.8,
    val_auc_interest=None,
    images_per_second=40.0,
    val_auc=(0.8, None),
    pseudo_positive=(None, 0.25),
)
